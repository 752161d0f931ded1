// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"fmt"
	"math/rand/v2"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

var koreanSentences = []string{
	"내용물을 완전히 비우고 물로 한 번 헹궈 주세요.",
	"겉에 붙은 라벨과 테이프를 떼어 따로 버려 주세요.",
	"뚜껑과 고리는 재질이 다르므로 분리해서 배출합니다.",
	"부피를 줄이기 위해 납작하게 눌러 주세요.",
	"물기를 말린 뒤 지정된 수거함에 넣어 주세요.",
	"음식물이 묻어 지워지지 않으면 종량제 봉투에 담아 주세요.",
	"지역마다 수거 요일이 다르니 배출 전에 확인해 주세요.",
	"날카로운 부분은 신문지로 감싸 다치지 않게 해 주세요.",
	"전용 수거함이 없으면 주민센터에 문의해 주세요.",
	"끈으로 묶어 흩어지지 않게 내놓아 주세요.",
}

var englishSentences = []string{
	"Empty the container completely and rinse it once with water.",
	"Peel off labels and tape and throw them away separately.",
	"Caps and rings are a different material, so sort them out.",
	"Flatten the item to save space in the bin.",
	"Let it dry before you put it into the marked bin.",
	"If food residue does not wash off, use a general waste bag.",
	"Collection days differ by district, so check them first.",
	"Wrap sharp edges in newspaper so that nobody gets hurt.",
	"Ask the community center when there is no dedicated bin.",
	"Tie everything together so that nothing blows away.",
}

// sentence picks one sentence in the user's language.
func (g *generator) sentence() string {
	if g.korean {
		return koreanSentences[g.rng.IntN(len(koreanSentences))]
	}
	return englishSentences[g.rng.IntN(len(englishSentences))]
}

// prose is between low and high sentences.
func (g *generator) prose(low, high int) string {
	sentences := make([]string, low+g.rng.IntN(high-low+1))
	for i := range sentences {
		sentences[i] = g.sentence()
	}
	return strings.Join(sentences, " ")
}

// text generates a string for a schema: by its pattern, by its format, the name
// of what an image shows, or prose of the right length.
func (g *generator) text(s *schema) string {
	switch {
	case s.pattern != nil:
		var out strings.Builder
		writeMatch(&out, s.pattern, g.rng, s.minLength)
		return out.String()
	case s.format != "":
		if v, ok := g.formatted(s.format); ok {
			return v
		}
	}
	if name := g.subject(); name != "" {
		n := utf8.RuneCountInString(name)
		if n >= s.minLength && (s.maxLength < 0 || n <= s.maxLength) {
			return name
		}
	}
	text := g.prose(1, 2)
	for utf8.RuneCountInString(text) < s.minLength {
		text += " " + g.sentence()
	}
	if runes := []rune(text); s.maxLength >= 0 && len(runes) > s.maxLength {
		text = string(runes[:s.maxLength])
	}
	return text
}

// subject is the most specific level of what the call's image shows.
func (g *generator) subject() string {
	if len(g.hints) < 2 {
		return ""
	}
	return g.hints[1]
}

// formatted generates a string of one of the formats that strict mode knows.
func (g *generator) formatted(format string) (string, bool) {
	date := fmt.Sprintf("20%02d-%02d-%02d", 20+g.rng.IntN(10), 1+g.rng.IntN(12), 1+g.rng.IntN(28))
	clockTime := fmt.Sprintf("%02d:%02d:%02dZ", g.rng.IntN(24), g.rng.IntN(60), g.rng.IntN(60))
	n := g.rng.IntN(1000)
	switch format {
	case "date":
		return date, true
	case "time":
		return clockTime, true
	case "date-time":
		return date + "T" + clockTime, true
	case "duration":
		return fmt.Sprintf("PT%dM", n), true
	case "email":
		return fmt.Sprintf("user%d@example.com", n), true
	case "hostname":
		return fmt.Sprintf("host-%d.example.com", n), true
	case "ipv4":
		return fmt.Sprintf("192.0.2.%d", n%256), true
	case "ipv6":
		return fmt.Sprintf("2001:db8::%x", n), true
	case "uuid":
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", g.rng.Uint32(), g.rng.IntN(1<<16), g.rng.IntN(1<<12),
			g.rng.IntN(1<<12), g.rng.Int64N(1<<48)), true
	case "uri":
		return fmt.Sprintf("https://example.com/%d", n), true
	default:
		return "", false
	}
}

// openRepeat is how often an open-ended repetition in a pattern is repeated at
// most, beyond its minimum.
const openRepeat = 4

// writeMatch writes a string that matches a pattern. A repetition without an
// upper bound also fills the string up to the minimum length.
func writeMatch(out *strings.Builder, re *syntax.Regexp, rng *rand.Rand, minLength int) {
	switch re.Op {
	case syntax.OpLiteral:
		out.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		out.WriteRune(pickRune(re.Rune, rng))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		out.WriteRune('a' + rng.Int32N(26))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			writeMatch(out, sub, rng, minLength)
		}
	case syntax.OpAlternate:
		writeMatch(out, re.Sub[rng.IntN(len(re.Sub))], rng, minLength)
	case syntax.OpQuest:
		if rng.IntN(2) == 0 {
			writeMatch(out, re.Sub[0], rng, minLength)
		}
	case syntax.OpStar, syntax.OpPlus:
		n := rng.IntN(openRepeat)
		if re.Op == syntax.OpPlus {
			n++
		}
		for i := 0; i < n || utf8.RuneCountInString(out.String()) < minLength; i++ {
			before := out.Len()
			writeMatch(out, re.Sub[0], rng, 0)
			if out.Len() == before {
				return // an empty match would repeat without end
			}
		}
	case syntax.OpRepeat:
		n := re.Min
		switch {
		case re.Max < 0:
			n = max(n, minLength) + rng.IntN(openRepeat)
		case re.Max > re.Min:
			n += rng.IntN(re.Max - re.Min + 1)
		}
		for range n {
			writeMatch(out, re.Sub[0], rng, minLength)
		}
	default:
		// Anchors and empty matches write nothing.
	}
}

// pickRune chooses from the ranges of a character class, printable ASCII first:
// a negated class would otherwise mostly give unprintable runes.
func pickRune(ranges []rune, rng *rand.Rand) rune {
	var printable []rune
	for i := 0; i+1 < len(ranges); i += 2 {
		for r := max(ranges[i], ' '); r <= min(ranges[i+1], '~'); r++ {
			printable = append(printable, r)
		}
	}
	if len(printable) > 0 {
		return printable[rng.IntN(len(printable))]
	}
	i := rng.IntN(len(ranges)/2) * 2
	return ranges[i] + rng.Int32N(ranges[i+1]-ranges[i]+1)
}
