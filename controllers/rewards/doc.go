// Package rewards posts the reward of each finished scan to another service, once it is in the scan's status.
package rewards
