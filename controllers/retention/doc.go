// Package retention caps the number of finished scans in a namespace; the oldest ones beyond it are deleted.
package retention
