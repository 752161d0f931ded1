// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package knowledge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The bounds of a pack. Where a text ends up in an object of the API, its bound is the object's.
const (
	maxName         = 128 // v1alpha1.Classification and v1alpha1.Reward
	maxTag          = 64  // v1alpha1.ScanResult
	maxInstruction  = 256
	maxTitle        = 256 // v1alpha1.DisposalRules
	maxRuleText     = 512 // v1alpha1.DisposalRules
	maxDialog       = 512 // v1alpha1.Reward
	maxType         = 64  // v1alpha1.Reward
	maxKeyword      = 64
	maxNoRuleFound  = 1500 // v1alpha1.Answer, with room for the category
	maxRewardReason = 200  // v1alpha1.Reward, with room for the placeholders
	// maxRuleID keeps the prompt cache key, of which the rule's id is a part, within the provider's 64 characters.
	maxRuleID = 40

	// Strict schemas have at most 1000 enum values in all.
	maxMajors  = 32
	maxMiddles = 24
	maxTags    = 64

	minItems, maxItems           = 5, 64
	minSteps, maxSteps           = 3, 12 // v1alpha1.DisposalRules
	minExclusions, maxExclusions = 1, 12 // v1alpha1.DisposalRules
	maxInstructions              = 6
	maxRules                     = maxMajors * (maxMiddles + 1)
	maxCharacters                = 500
	maxKeywords                  = 64
)

// readTaxonomy reads taxonomy.yaml.
func (p *Pack) readTaxonomy(root node) {
	fields := root.mapping("the taxonomy", "unclassifiable", "situation_tags", "majors")
	p.Unclassifiable = fields["unclassifiable"].text("unclassifiable", maxName)
	p.SituationTags = fields["situation_tags"].texts("situation_tags", 1, maxTags, maxTag)
	p.majors = make(map[string]*Major)
	ids := make(map[int]string)
	for _, entry := range fields["majors"].list("majors", 1, maxMajors) {
		major := p.readMajor(entry, ids)
		if major.Name != "" && (p.majors[major.Name] != nil || major.Name == p.Unclassifiable) {
			entry.report(fmt.Sprintf("the major %q is there twice", major.Name), "give each major, and unclassifiable, a name of its own")
			continue
		}
		p.Majors = append(p.Majors, major)
		p.majors[major.Name] = &major
	}
}

// readMajor reads a major class.
func (p *Pack) readMajor(entry node, ids map[int]string) Major {
	fields := entry.mapping("a major", "id?", "name", "display_name", "instructions?", "recyclable?", "middles?")
	major := Major{
		Name:        fields["name"].text("name", maxName),
		DisplayName: fields["display_name"].text("display_name", maxName),
		Recyclable:  fields["recyclable"].flag("recyclable"),
	}
	if fields["middles"].missing() {
		for _, name := range []string{"id", "instructions"} {
			if fields[name].missing() && major.Name != "" {
				entry.report(fmt.Sprintf("the major %q has neither middles nor the field %q", major.Name, name), "add one of them")
			}
		}
		major.ID = readID(fields["id"], major.Name, ids)
		major.Instructions = fields["instructions"].texts("instructions", 1, maxInstructions, maxInstruction)
		return major
	}
	for _, name := range []string{"id", "instructions"} {
		if !fields[name].missing() {
			fields[name].report(fmt.Sprintf("the major %q has middles, which have the field %q instead", major.Name, name), "remove it here")
		}
	}
	for _, child := range fields["middles"].list("middles", 1, maxMiddles) {
		fields := child.mapping("a middle", "id", "name", "display_name", "instructions")
		middle := Middle{
			Name:         fields["name"].text("name", maxName),
			DisplayName:  fields["display_name"].text("display_name", maxName),
			Instructions: fields["instructions"].texts("instructions", 1, maxInstructions, maxInstruction),
		}
		middle.ID = readID(fields["id"], middle.Name, ids)
		if middle.Name != "" && slices.ContainsFunc(major.Middles, func(m Middle) bool { return m.Name == middle.Name }) {
			child.report(fmt.Sprintf("the middle %q is in %q twice", middle.Name, major.Name), "give each middle a name of its own")
		}
		major.Middles = append(major.Middles, middle)
	}
	return major
}

// readID reads a category's number, which must be its own.
func readID(n node, owner string, ids map[int]string) int {
	id := n.number("id")
	if other, taken := ids[id]; taken && id != 0 {
		n.report(fmt.Sprintf("the id %d of %q is that of %q", id, owner, other), "choose a number that is not taken")
	}
	ids[id] = owner
	return id
}

// ruleID is what a rule's id looks like.
var ruleID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// readRules reads rules.yaml.
func (p *Pack) readRules(root node) {
	p.rules = make(map[class]*Rule)
	ids := make(map[string]bool)
	for _, entry := range root.mapping("the file", "rules")["rules"].list("rules", 1, maxRules) {
		fields := entry.mapping("a rule", "id", "major", "middle?", "title", "items", "steps", "exclusions")
		rule := Rule{
			ID:         fields["id"].text("id", maxRuleID),
			Major:      fields["major"].text("major", maxName),
			Middle:     fields["middle"].text("middle", maxName),
			Title:      fields["title"].text("title", maxTitle),
			Items:      fields["items"].texts("items", minItems, maxItems, maxName),
			Steps:      fields["steps"].texts("steps", minSteps, maxSteps, maxRuleText),
			Exclusions: fields["exclusions"].texts("exclusions", minExclusions, maxExclusions, maxRuleText),
		}
		if rule.ID != "" && !ruleID.MatchString(rule.ID) {
			fields["id"].report(fmt.Sprintf("the id %q is not made of lower-case letters, digits and single dashes", rule.ID), "rename it, e.g. recyclable-paper")
		}
		if ids[rule.ID] && rule.ID != "" {
			fields["id"].report(fmt.Sprintf("the id %q is there twice", rule.ID), "give each rule an id of its own")
		}
		ids[rule.ID] = true
		p.checkClass(fields["major"], fields["middle"], rule)
		key := class{rule.Major, rule.Middle}
		if p.rules[key] != nil && rule.Major != "" {
			entry.report(fmt.Sprintf("there are two rules for %q", strings.TrimSuffix(rule.Major+" / "+rule.Middle, " / ")), "merge them")
		}
		p.Rules = append(p.Rules, rule)
		p.rules[key] = &rule
	}
}

// checkClass reports a rule for a class that the taxonomy does not have.
func (p *Pack) checkClass(majorNode, middleNode node, rule Rule) {
	if rule.Major == "" || p.majors == nil {
		return // already reported
	}
	major, ok := p.majors[rule.Major]
	if !ok {
		majorNode.report(fmt.Sprintf("the taxonomy has no major %q", rule.Major), "use one of "+strings.Join(names(p.Majors), ", "))
		return
	}
	if rule.Middle != "" && !p.Contains(rule.Major, rule.Middle) {
		fix := "remove the field: this major has no middles"
		if len(major.Middles) > 0 {
			fix = "use one of " + strings.Join(middleNames(major), ", ")
		}
		middleNode.report(fmt.Sprintf("the major %q has no middle %q", rule.Major, rule.Middle), fix)
	}
}

// readRewards reads rewards.yaml.
func (p *Pack) readRewards(root node) {
	var recyclable []string
	for i := range p.Majors {
		if p.Majors[i].Recyclable {
			recyclable = append(recyclable, middleNames(&p.Majors[i])...)
		}
	}
	fix := "use one of " + strings.Join(recyclable, ", ")
	if len(recyclable) == 0 {
		fix = "mark the major it belongs to as recyclable: true in " + fileTaxonomy
	}
	seen := make(map[string]bool)
	for _, entry := range root.mapping("the file", "characters")["characters"].list("characters", 0, maxCharacters) {
		fields := entry.mapping("a character", "name", "type", "dialog", "middles?", "keywords?")
		character := Character{
			Name:     fields["name"].text("name", maxName),
			Type:     fields["type"].text("type", maxType),
			Dialog:   fields["dialog"].text("dialog", maxDialog),
			Middles:  fields["middles"].texts("middles", 1, maxMiddles, maxName),
			Keywords: fields["keywords"].texts("keywords", 1, maxKeywords, maxKeyword),
		}
		if character.Name != "" && seen[character.Name] {
			entry.report(fmt.Sprintf("the character %q is there twice", character.Name), "give each character a name of its own")
		}
		seen[character.Name] = true
		if fields["middles"].missing() && fields["keywords"].missing() {
			entry.report(fmt.Sprintf("nothing matches the character %q", character.Name), "add middles or keywords")
		}
		if p.majors != nil {
			for i, middle := range character.Middles {
				if middle != "" && !slices.Contains(recyclable, middle) {
					fields["middles"].at(fields["middles"].yaml.Content[i]).report(
						fmt.Sprintf("no recyclable major has a middle %q", middle), fix)
				}
			}
		}
		p.Characters = append(p.Characters, character)
	}
}

// language is what a language's name looks like: ISO 639-1.
var language = regexp.MustCompile(`^[a-z]{2}$`)

// readTexts reads texts.yaml.
func (p *Pack) readTexts(root node) {
	fields := root.mapping("the file", "default_language", "no_rule_found", "reward_reason")
	p.texts.fallback = fields["default_language"].text("default_language", 2)
	p.texts.noRuleFound = p.readText(fields["no_rule_found"], "no_rule_found", maxNoRuleFound, placeholderCategory)
	p.texts.rewardReason = p.readText(fields["reward_reason"], "reward_reason", maxRewardReason, placeholderCategory, placeholderItem)
}

// placeholder is what a placeholder looks like.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// readText reads one text in several languages.
func (p *Pack) readText(n node, what string, limit int, placeholders ...string) map[string]string {
	byLanguage := make(map[string]string)
	names, values := n.entries(what)
	for i, name := range names {
		key := name.yaml.Value
		if !language.MatchString(key) {
			name.report(fmt.Sprintf("%q in %s is no language", key, what), "use a two-letter code such as ko or en")
		}
		if _, taken := byLanguage[key]; taken {
			name.report(fmt.Sprintf("the language %q is in %s twice", key, what), "keep one of them")
		}
		byLanguage[key] = values[i].text(what, limit)
		for _, found := range placeholder.FindAllString(byLanguage[key], -1) {
			if !slices.Contains(placeholders, found) {
				values[i].report(fmt.Sprintf("%s has no placeholder %s", what, found), "use one of "+strings.Join(placeholders, ", "))
			}
		}
	}
	if _, ok := byLanguage[p.texts.fallback]; !ok && len(names) > 0 && p.texts.fallback != "" {
		n.report(fmt.Sprintf("%s has no text in the default language %q", what, p.texts.fallback), "add one, or change default_language")
	}
	return byLanguage
}

// names are the names of the majors.
func names(majors []Major) []string {
	list := make([]string, len(majors))
	for i := range majors {
		list[i] = majors[i].Name
	}
	return list
}

// middleNames are the names of a major's middles.
func middleNames(major *Major) []string {
	list := make([]string, len(major.Middles))
	for i := range major.Middles {
		list[i] = major.Middles[i].Name
	}
	return list
}
