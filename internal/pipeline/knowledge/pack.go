// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package knowledge holds the pipeline's knowledge about waste: the taxonomy, the disposal rules, the reward
// catalog, the prompts and the fixed texts. All of it comes from a knowledge pack, a folder of YAML and text
// files that is validated as a whole when it is loaded; README.md describes the format.
package knowledge

import (
	"strings"
)

// Pack is a valid knowledge pack. It is read-only after Load: all readers share it without locking.
type Pack struct {
	// Version identifies the contents: the first 12 hexadecimal digits of their SHA-256.
	Version string
	// Majors are the classes of waste, in the pack's order.
	Majors []Major
	// Unclassifiable is the answer that stands for "none of these classes". It is no class itself.
	Unclassifiable string
	// SituationTags are the words for the state of a thing in a photo.
	SituationTags []string
	// Rules are the disposal rules, in the pack's order.
	Rules []Rule
	// Characters is the reward catalog, in the pack's order, which breaks ties.
	Characters []Character
	// VisionPrompt and AnswerPrompt are the instructions of the two language model stages.
	VisionPrompt, AnswerPrompt string

	texts  texts
	majors map[string]*Major
	rules  map[class]*Rule
	schema map[string]any
}

// class names a class of waste; middle is empty for the major class as a whole.
type class struct{ major, middle string }

// Major is a class of waste.
type Major struct {
	// ID is the class's number in the category list. It is unique among all majors and middles.
	ID int
	// Name is the class's name in answers and rules; DisplayName is its name for people.
	Name, DisplayName string
	// Instructions say in short how to dispose of it. Empty where Middles is not.
	Instructions []string
	// Recyclable classes earn rewards.
	Recyclable bool
	// Middles are the kinds within the class. It may have none.
	Middles []Middle
}

// Middle is a kind within a class of waste.
type Middle struct {
	// ID is the kind's number in the category list.
	ID int
	// Name is the kind's name in answers and rules; DisplayName is its name for people.
	Name, DisplayName string
	// Instructions say in short how to dispose of it.
	Instructions []string
}

// Rule describes how to dispose of one class of waste.
type Rule struct {
	// ID names the rule for machines: lower-case letters, digits and dashes.
	ID string
	// Major and Middle are the class the rule is for. Without Middle it is for every kind of the class that has
	// no rule of its own.
	Major, Middle string
	// Title is the rule's name for people.
	Title string
	// Items are examples of what the rule is for.
	Items []string
	// Steps are the disposal steps, in order.
	Steps []string
	// Exclusions are the things that look alike but belong elsewhere.
	Exclusions []string
}

// Character is a collectible character of the reward catalog. It matches a thing by the kind of waste or by a
// keyword in the thing's name.
type Character struct {
	// Name, Type and Dialog are what the user sees.
	Name, Type, Dialog string
	// Middles are the kinds of waste the character stands for.
	Middles []string
	// Keywords are words in the thing's name that it stands for. They count for more than Middles.
	Keywords []string
}

// Category is one line of the category list of the HTTP API.
type Category struct {
	// ID is the category's number, which does not change between versions of the pack.
	ID int
	// Name is the class or kind of waste; DisplayName is its name for people.
	Name, DisplayName string
	// Instructions say in short how to dispose of it.
	Instructions []string
}

// Categories lists every class that a scan can have: the kinds of a class that has some, otherwise the class itself.
func (p *Pack) Categories() []Category {
	var list []Category
	for _, major := range p.Majors {
		if len(major.Middles) == 0 {
			list = append(list, Category{ID: major.ID, Name: major.Name, DisplayName: major.DisplayName, Instructions: major.Instructions})
		}
		for _, middle := range major.Middles {
			list = append(list, Category(middle))
		}
	}
	return list
}

// Contains reports whether the taxonomy has this class. A class with kinds needs one of them; one without has an
// empty middle.
func (p *Pack) Contains(major, middle string) bool {
	m, ok := p.majors[major]
	if !ok {
		return false
	}
	if len(m.Middles) == 0 {
		return middle == ""
	}
	for i := range m.Middles {
		if m.Middles[i].Name == middle {
			return true
		}
	}
	return false
}

// Recyclable reports whether a major class earns rewards.
func (p *Pack) Recyclable(major string) bool {
	m, ok := p.majors[major]
	return ok && m.Recyclable
}

// Rule finds the rule for a class: that of the kind, else that of the class as a whole.
func (p *Pack) Rule(major, middle string) (*Rule, bool) {
	if rule, ok := p.rules[class{major, middle}]; ok {
		return rule, true
	}
	rule, ok := p.rules[class{major, ""}]
	return rule, ok
}

// NoRuleFound is the fixed answer for a class that has no rule, in the language of what the user wrote.
func (p *Pack) NoRuleFound(userInput, category string) string {
	return strings.ReplaceAll(p.texts.in(p.texts.noRuleFound, userInput), placeholderCategory, category)
}

// RewardReason explains why a character was matched to an item, in the language of the user's input.
func (p *Pack) RewardReason(userInput, category, item string) string {
	return strings.NewReplacer(placeholderCategory, category, placeholderItem, item).
		Replace(p.texts.in(p.texts.rewardReason, userInput))
}

// VisionSchema is the strict JSON schema of the vision stage's answer, made of the taxonomy and the situation
// tags. The map is shared: do not change it.
func (p *Pack) VisionSchema() map[string]any { return p.schema }
