// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// cacheMinimum and cacheStep are where prompt prefixes are remembered: the
	// first 1024 tokens, and every 128 after that.
	cacheMinimum = 1024
	cacheStep    = 128
	// cacheLifetime is how long an unused prefix stays.
	cacheLifetime = 10 * time.Minute
	// cacheEntries bounds the memory of one account's cache.
	cacheEntries = 8192
)

// prefixSeed keys the hashes of prompt prefixes.
var prefixSeed = maphash.MakeSeed()

// promptCache remembers which prompt prefixes an account has sent.
type promptCache struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPromptCache() *promptCache { return &promptCache{seen: map[uint64]time.Time{}} }

// lookup returns how many tokens of the call's prompt are a remembered prefix,
// and remembers the prompt.
func (c *promptCache) lookup(call *call, now time.Time) int64 {
	if call.inputTokens < cacheMinimum {
		return 0
	}
	prefixes := prefixHashes(call)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen)+len(prefixes) > cacheEntries {
		c.evictLocked(now)
	}
	cached := int64(0)
	for i, hash := range prefixes {
		if expires, ok := c.seen[hash]; ok && now.Before(expires) {
			cached = cacheMinimum + int64(i)*cacheStep
		}
		c.seen[hash] = now.Add(cacheLifetime)
	}
	return cached
}

// evictLocked forgets what has expired, and everything when that is not
// enough: a cache miss costs money, never correctness.
func (c *promptCache) evictLocked(now time.Time) {
	for hash, expires := range c.seen {
		if !now.Before(expires) {
			delete(c.seen, hash)
		}
	}
	if len(c.seen) > cacheEntries/2 {
		clear(c.seen)
	}
}

// prefixHashes hashes the prompt up to each cache boundary. The schema of the
// structured output comes first, as it does at the provider; an image is one
// indivisible piece.
func prefixHashes(call *call) []uint64 {
	var (
		h        maphash.Hash
		hashes   []uint64
		quarters int64
		boundary = int64(cacheMinimum * quarter)
	)
	h.SetSeed(prefixSeed)
	reach := func() {
		for quarters >= boundary {
			hashes = append(hashes, h.Sum64())
			boundary += cacheStep * quarter
		}
	}
	text := func(s string) {
		for s != "" {
			length, cost := fit(s, boundary-quarters)
			if length == 0 {
				// The next rune straddles the boundary: it belongs before it.
				quarters = boundary
				reach()
				continue
			}
			_, _ = h.WriteString(s[:length]) // maphash never fails
			quarters += cost
			s = s[length:]
			reach()
		}
	}
	if call.format != nil {
		text(string(call.format.raw))
	}
	for _, part := range call.parts {
		_ = h.WriteByte(byte(part.role)) // maphash never fails
		if part.image == nil {
			text(part.text)
			continue
		}
		_, _ = h.WriteString(part.image.url + part.image.detail) // maphash never fails
		quarters += part.image.tokens * quarter
		reach()
	}
	return hashes
}
