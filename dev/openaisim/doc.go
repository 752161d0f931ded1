// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openaisim is a simulated LLM provider: an HTTP server with the
// part of the OpenAI API that this project uses. It enforces rate limits as the
// real service was observed to do.
//
// Tests rely on it: "no 429" means nothing against a lenient server. Where the
// provider's documents leave a question open, it takes the stricter reading, and
// [Config] has a switch for the other one. Nothing is streamed.
//
// # Provider endpoints
//
// All of them need "Authorization: Bearer KEY".
//
//	POST /v1/responses               image + text in, structured output
//	POST /v1/chat/completions        the same
//	POST /v1/responses/input_tokens  the exact input token count of a request
//	GET  /v1/models, /v1/models/{id}
//
// # Limits
//
// One account is one (organization, model group) pair. Each has a token bucket
// and a request bucket of capacity L that refill continuously with L/60 per
// second, and optionally a request bucket per day and a token bucket per
// project. A call is charged when it is admitted, before anything is
// generated: round(characters/4)+2 for every message, plus the published image
// token formula, plus the requested output limit. Cached tokens count; nothing
// is given back when the answer is shorter or the client has left.
//
// # Control endpoints
//
// They need no key and take no part in the limits.
//
//	GET   /sim          an index of these endpoints
//	GET   /sim/stats    counters and bucket levels ([Stats])
//	POST  /sim/reset    empty the counters, refill every bucket, forget caches
//	GET   /sim/config   the settings in force ([Config]); fault counts are what is left
//	PUT   /sim/config   replace all settings; absent fields take their defaults
//	PATCH /sim/config   change the fields in the body, keep the rest
//	POST  /sim/consume  {"key","model","tokens","requests"}: an unknown second
//	                    client takes this much out of an account, as far as it is there
//
// # Images
//
// An http(s) image is never fetched. Its URL may carry what the simulation
// should know about it: "w" and "h" (pixels, default 1024x1024), and "class",
// the classification a vision call should find, its levels separated by
// slashes ("?class=재활용폐기물/무색페트병", URL-encoded). PNG, JPEG and GIF data
// URLs are measured for their real size.
//
// # Paid twice?
//
// Calls that carry an X-Client-Request-Id are counted by that id, so that a
// test can see how many distinct pieces of work were paid, and how many were
// paid more than once; see [PaymentStats].
package openaisim
