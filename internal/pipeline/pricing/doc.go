// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pricing has the provider's published price formulas for prompts and images, and the families of models
// they depend on. Prices are in tokens.
package pricing
