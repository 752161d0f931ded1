// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"context"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// API is the provider's endpoint a call goes to.
type API string

// The APIs in use.
const (
	// Responses takes the image of the vision stage.
	Responses API = "responses"
	// ChatCompletions writes the answer.
	ChatCompletions API = "chat.completions"
)

// Call is one call of a language model, free of any provider's wire format.
type Call struct {
	// API is the endpoint.
	API API
	// Budget names the TokenBudget that pays: it decides the endpoint's address and the key.
	Budget string
	// Model is the provider's name of the model.
	Model string
	// Instructions are the same for every call of a stage. They go first, so that the provider can cache them.
	Instructions string
	// Text is the text of the user message. It may be empty next to an image.
	Text string
	// ImageURL is fetched by the provider. Empty for a call without an image.
	ImageURL string
	// ImageDetail is sent with the image. Empty means low.
	ImageDetail v1alpha1.ImageDetail
	// SchemaName and Schema are the strict JSON schema of the answer. The map is shared: it must not be changed.
	SchemaName string
	Schema     map[string]any
	// MaxOutputTokens bounds the answer, reasoning included. It is always sent: the provider charges it at
	// admission, and so does the ledger.
	MaxOutputTokens int32
	// ReasoningEffort is sent to models that reason. Empty leaves it out.
	ReasoningEffort string
	// RequestID is the scan's UID and its stage, the same for every attempt. It is sent as X-Client-Request-Id, so that a
	// call can be traced, and one that was paid for twice be found.
	RequestID string
	// CacheKey steers calls with the same beginning to the same cache of the provider.
	CacheKey string
}

// Reply is a provider's answer to a call.
type Reply struct {
	// Text is the answer, which should be JSON of the call's schema. It has not been validated.
	Text string
	// Usage is what the provider reported; Reserved is zero.
	Usage v1alpha1.TokenUsage
	// RateLimit is from the provider's headers; nil without such headers.
	RateLimit *v1alpha1.RateLimitObservation
}

// Completer sends calls. Implementations are safe for concurrent use.
//
// An error that was classified is or wraps a *Failure. A failed call may still have cost tokens and brought
// headers, so Reply.Usage and Reply.RateLimit are filled as far as they are known next to an error too.
type Completer interface {
	Complete(ctx context.Context, call Call) (Reply, error)
}
