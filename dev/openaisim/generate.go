// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

const (
	// maxGenerationDepth and maxGenerationBytes are where a value stops
	// growing: arrays get as short as the schema allows, null is taken.
	maxGenerationDepth = 12
	maxGenerationBytes = 16 << 10
	// hardDepth and hardBytes end a schema that cannot be satisfied by a finite
	// value: what is left becomes null.
	hardDepth = 64
	hardBytes = 256 << 10
)

// generator writes one value that satisfies a schema. The same seed and
// request give the same value.
type generator struct {
	rng   *rand.Rand
	root  *schema
	hints []string
	// empty is the probability in percent that an array property is empty.
	empty  map[string]int64
	korean bool
	out    bytes.Buffer
}

// generateAnswer writes the text of an answer: JSON when the call asks for a
// format, prose otherwise.
func generateAnswer(c *call, config *Config, choice uint64) string {
	g := &generator{
		rng:    rand.New(rand.NewPCG(config.Seed, c.hash+choice)),
		hints:  c.hints(config.Classes),
		empty:  config.EmptyArrays,
		korean: c.korean(),
	}
	switch {
	case c.format == nil:
		return g.prose(3, 6)
	case c.format.schema == nil:
		g.out.WriteString(`{"answer":`)
		g.writeText(g.prose(1, 3))
		g.out.WriteByte('}')
	default:
		g.root = c.format.schema
		g.value(g.root, "", 0)
	}
	return g.out.String()
}

// value writes a value for a schema. name is the property it belongs to.
func (g *generator) value(s *schema, name string, depth int) {
	s = g.resolve(s)
	switch {
	case depth > hardDepth || g.out.Len() > hardBytes:
		g.out.WriteString("null")
	case s.constant != nil:
		g.writeRaw(s.constant)
	case s.enum != nil:
		g.writeRaw(g.pick(s))
	case s.anyOf != nil:
		g.value(g.branch(s.anyOf, depth), name, depth)
	default:
		g.typed(s, g.chooseType(s, depth), name, depth)
	}
}

// grown reports whether the value should end soon.
func (g *generator) grown(depth int) bool {
	return depth > maxGenerationDepth || g.out.Len() > maxGenerationBytes
}

// typed writes a value of one type.
func (g *generator) typed(s *schema, kind, name string, depth int) {
	switch kind {
	case "object":
		g.object(s, depth)
	case "array":
		g.array(s, name, depth)
	case "string":
		g.writeText(g.text(s))
	case "integer", "number":
		g.number(s, kind == "integer")
	case "boolean":
		g.out.WriteString(strconv.FormatBool(g.rng.IntN(2) == 0))
	default:
		g.out.WriteString("null")
	}
}

// resolve follows references.
func (g *generator) resolve(s *schema) *schema {
	for range maxGenerationDepth {
		if s.ref == "" {
			return s
		}
		target := g.root.defs[s.ref]
		if s.ref == "#" {
			target = g.root
		}
		if target == nil {
			return &schema{types: []string{"null"}}
		}
		s = target
	}
	return &schema{types: []string{"null"}}
}

// chooseType picks one of the schema's types; null only where recursion has to
// end, or where a hint was given and found nothing.
func (g *generator) chooseType(s *schema, depth int) string {
	switch {
	case len(s.types) == 0 && s.isObject():
		return "object"
	case len(s.types) == 0:
		return "string"
	case g.grown(depth) && s.has("null"):
		return "null"
	}
	for _, t := range s.types {
		if t != "null" {
			return t
		}
	}
	return "null"
}

// object writes all properties, in the schema's order.
func (g *generator) object(s *schema, depth int) {
	g.out.WriteByte('{')
	for i, p := range s.properties {
		if i > 0 {
			g.out.WriteByte(',')
		}
		g.writeText(p.name)
		g.out.WriteByte(':')
		g.value(p.schema, p.name, depth+1)
	}
	g.out.WriteByte('}')
}

// array writes between minItems and a handful of elements. Elements from an
// enum do not repeat.
func (g *generator) array(s *schema, name string, depth int) {
	n := g.length(s, name, depth)
	g.out.WriteByte('[')
	var choices []json.RawMessage
	if s.items != nil {
		if item := g.resolve(s.items); item.enum != nil {
			choices = slices.Clone(item.enum)
			g.rng.Shuffle(len(choices), func(i, j int) { choices[i], choices[j] = choices[j], choices[i] })
			n = max(s.minItems, min(n, len(choices)))
		}
	}
	for i := range n {
		if i > 0 {
			g.out.WriteByte(',')
		}
		switch {
		case choices != nil:
			g.writeRaw(choices[i%len(choices)])
		case s.items != nil:
			g.value(s.items, name, depth+1)
		default:
			g.writeText(g.sentence())
		}
	}
	g.out.WriteByte(']')
}

// length is how many elements an array gets.
func (g *generator) length(s *schema, name string, depth int) int {
	emptyRoll := g.rng.Int64N(100)
	low := max(s.minItems, 1)
	high := max(s.minItems, 2) + 3
	if s.maxItems >= 0 {
		low, high = min(low, s.maxItems), min(high, s.maxItems)
	}
	n := low + g.rng.IntN(high-low+1)
	if g.grown(depth) || (s.minItems == 0 && emptyRoll < g.empty[name]) {
		return s.minItems
	}
	return n
}

// pick chooses an enum value: the most specific hint it contains, a value that
// says "nothing" when there is a hint but it is not in the list, any value
// otherwise.
func (g *generator) pick(s *schema) json.RawMessage {
	if v, ok := g.hinted(s); ok {
		return v
	}
	if len(g.hints) > 0 {
		for _, v := range s.enum {
			if nothing := string(v); nothing == "null" || nothing == `""` {
				return v
			}
		}
	}
	return s.enum[g.rng.IntN(len(s.enum))]
}

// hinted finds the enum value of a schema that a hint names.
func (g *generator) hinted(s *schema) (json.RawMessage, bool) {
	values := s.enum
	if s.constant != nil {
		values = []json.RawMessage{s.constant}
	}
	for _, hint := range g.hints {
		for _, v := range values {
			var text string
			if json.Unmarshal(v, &text) == nil && text == hint {
				return v, true
			}
		}
	}
	return nil, false
}

// branch chooses an alternative: the one that names most of the hints, null
// only to end a recursion or when none does.
func (g *generator) branch(alternatives []*schema, depth int) *schema {
	var best *schema
	most := 0
	for _, s := range alternatives {
		named := 0
		for i := range g.hints {
			one := generator{root: g.root, hints: g.hints[i : i+1]}
			if one.mentions(s, 0) {
				named++
			}
		}
		if named > most {
			best, most = s, named
		}
	}
	if best != nil {
		return best
	}
	var candidates []*schema
	for _, s := range alternatives {
		isNull := slices.Equal(s.types, []string{"null"})
		switch {
		case isNull && (g.grown(depth) || (len(g.hints) > 0 && g.onlyEnums(alternatives))):
			return s
		case !isNull:
			candidates = append(candidates, s)
		}
	}
	if len(candidates) == 0 {
		return alternatives[0]
	}
	return candidates[g.rng.IntN(len(candidates))]
}

// onlyEnums reports whether every alternative is an enum, a constant or null:
// a choice about which the hints have a say.
func (g *generator) onlyEnums(alternatives []*schema) bool {
	for _, s := range alternatives {
		s = g.resolve(s)
		if s.enum == nil && s.constant == nil && !slices.Equal(s.types, []string{"null"}) {
			return false
		}
	}
	return true
}

// mentions reports whether a hint is an enum value of a schema or of one of
// its properties.
func (g *generator) mentions(s *schema, depth int) bool {
	if depth > maxGenerationDepth {
		return false
	}
	s = g.resolve(s)
	if _, ok := g.hinted(s); ok {
		return true
	}
	for _, p := range s.properties {
		if g.mentions(p.schema, depth+1) {
			return true
		}
	}
	return slices.ContainsFunc(s.anyOf, func(child *schema) bool { return g.mentions(child, depth+1) })
}

// number writes a number within its bounds.
func (g *generator) number(s *schema, integer bool) {
	step := 0.01
	if integer {
		step = 1
	}
	if s.multipleOf > 0 {
		step = s.multipleOf
	}
	low, high := 0.0, 100.0
	if s.minimum != nil {
		low, high = *s.minimum, max(high, *s.minimum+100*step)
	}
	if s.above != nil {
		low, high = *s.above+step/2, max(high, *s.above+100*step)
	}
	if s.maximum != nil {
		high = *s.maximum
	}
	if s.below != nil {
		high = *s.below - step/2
	}
	if s.minimum == nil && s.above == nil {
		low = min(low, high-100*step)
		if high > 0 && low < 0 {
			low = 0
		}
	}
	// Beyond this, doubles are no longer exact and their text no longer short.
	const most = 1e15
	low, high = min(most, max(-most, low)), min(most, max(-most, high))
	first, last := math.Ceil(low/step-1e-9), math.Floor(high/step+1e-9)
	n := first
	if last > first {
		n += float64(g.rng.Int64N(int64(min(last-first, 1<<53)) + 1))
	}
	precision := 6
	if integer {
		precision = 0
	}
	text := strconv.FormatFloat(n*step, 'f', precision, 64)
	if !integer {
		value, err := strconv.ParseFloat(text, 64)
		if err == nil {
			text = strconv.FormatFloat(value, 'f', -1, 64)
		}
	}
	g.out.WriteString(text)
}

// writeText writes a JSON string without escaping what JSON does not ask to.
func (g *generator) writeText(s string) {
	encoder := json.NewEncoder(&g.out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		// A string always encodes.
		panic(err)
	}
	g.out.Truncate(g.out.Len() - 1) // the newline
}

// writeRaw writes a value of the schema, without its white space.
func (g *generator) writeRaw(raw json.RawMessage) {
	if err := json.Compact(&g.out, raw); err != nil {
		// It was read out of a valid document.
		panic(err)
	}
}
