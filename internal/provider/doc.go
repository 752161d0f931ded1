// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package provider sends calls to a language model and classifies the responses. No other package does. It is
// responsible for keys, endpoints, headers and error classes; package stages builds the calls and reads the answers. It
// uses OpenAI's API, of OpenAI or of a compatible provider.
//
// One try is one HTTP request. There are no retries here: a retry spends tokens, which only the scheduler may decide.
package provider
