// Package provider sends calls to a language model and classifies what comes back. It is the only code that does:
// requests and answers are the pipeline's business, keys, addresses, headers and error classes are this
// package's. It speaks OpenAI's API, to OpenAI or to anything compatible.
//
// One try is one HTTP request. There are no retries here: a retry spends tokens, and tokens are the scheduler's.
package provider
