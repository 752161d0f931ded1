package budget

import (
	"math"
	"time"
)

const (
	// slotWidth is the resolution at which words are kept, by the instant they speak of; slotCount how many.
	slotWidth = ledgerTime(250 * time.Millisecond)
	slotCount = 64
	// freshSlots is how much of the latest time the lower bound is taken over.
	freshSlots = 4
	// groupSlots is how many slots are averaged at either end of a slope.
	groupSlots = 3

	// marginHalfLife is how fast the distance kept after surprises shrinks, cushionShare its largest part of the
	// limit, as a divisor.
	marginHalfLife = 60 * time.Second
	marginShare    = 10
	// overshootShare is the largest part of the limit, as a divisor, by which one surprise widens the cushion.
	overshootShare = 20
	// clusterTime is how long what others use must be able to come all at once: half the age of a word. Their calls
	// come in clusters.
	clusterTime = 4 * time.Second
	// othersFade is what is forgotten of the foreign use per second, as a part of the limit's refill.
	othersFade = 0.002
	// othersMost is the largest part of the refill that others are believed to take: the rest keeps asking.
	othersMost = 0.95
	// estimateEvery is how often the foreign use is estimated at most.
	estimateEvery = ledgerTime(100 * time.Millisecond)
)

// slopeLags are the distances over which a foreign use is measured, in slots: the shortest that is exact enough
// is used, because it is the freshest.
var slopeLags = [...]int64{8, 16, 32}

// slot gathers the words about a quarter of a second.
type slot struct {
	id           int64 // which quarter of a second; slots are reused
	count        float64
	middle       float64 // sum of the middles of the standings
	width        float64 // sum of their widths
	instants     float64 // sum of their instants, in seconds
	least        float64 // the smallest lower bound of a standing
	leastCertain float64 // the smallest word.certain
	mostLeft     float64 // the largest word.remaining
	known        bool    // there is a lower bound for every word
}

// otherUsage makes out of the provider's words what others take from the bucket, and how far to trust it.
type otherUsage struct {
	slots    [slotCount]slot
	newest   int64 // id of the latest slot
	observed bool
	at       ledgerTime // when the last word came

	// perSecond is what others use, in tokens per second. It also covers our own charges being higher than we
	// reckon: the level falls the same way.
	perSecond float64
	estimated ledgerTime
	// safetyMargin is what is left in the bucket because words have surprised us or others use it, in micro.
	safetyMargin int64
}

// reset drops all words, which spoke of another limit.
func (f *otherUsage) reset() { f.slots, f.observed = [slotCount]slot{}, false }

// note keeps a word.
func (f *otherUsage) note(w observation, perSecond float64) {
	upper := float64(w.remaining+1) - perSecond*w.from.seconds() + float64(w.possible)
	lower := float64(w.remaining) - perSecond*w.to.seconds() + float64(w.certain)
	id := int64(math.Floor(w.to.seconds() / slotWidth.seconds()))
	if f.observed && id <= f.newest-slotCount {
		return
	}
	if !f.observed || id > f.newest {
		f.newest, f.observed = id, true
	}
	s := &f.slots[((id%slotCount)+slotCount)%slotCount]
	if s.count == 0 || s.id != id {
		*s = slot{id: id, least: lower, leastCertain: float64(w.certain), known: true}
	}
	s.count++
	s.middle += (upper + lower) / 2
	s.width += upper - lower
	s.instants += w.to.seconds()
	s.least = min(s.least, lower)
	s.leastCertain = min(s.leastCertain, float64(w.certain))
	s.mostLeft = max(s.mostLeft, float64(w.remaining))
	s.known = s.known && w.certainKnown
}

// slot returns the words about one quarter of a second, or nil.
func (f *otherUsage) slot(id int64) *slot {
	s := &f.slots[((id%slotCount)+slotCount)%slotCount]
	if s.count == 0 || s.id != id {
		return nil
	}
	return s
}

// group sums the slots that end with one.
func (f *otherUsage) group(last, count int64) slot {
	sum := slot{known: true}
	for id := last; id > last-count; id-- {
		s := f.slot(id)
		if s == nil {
			continue
		}
		sum.count += s.count
		sum.middle += s.middle
		sum.width += s.width
		sum.instants += s.instants
		sum.mostLeft = max(sum.mostLeft, s.mostLeft)
		sum.known = sum.known && s.known
	}
	return sum
}

// estimate finds what others take: the fall of the standings over the shortest lag at which the uncertainty of
// the words is small against it. Spans in which the bucket may have run full say nothing: what did not fit is
// lost, and looks as if taken.
func (f *otherUsage) estimate(perSecond, limit float64, now ledgerTime) {
	f.at = now
	if now-f.estimated < estimateEvery {
		return
	}
	f.estimated = now
	late := f.group(f.newest, groupSlots)
	if late.count == 0 || !late.known {
		return
	}
	for _, lag := range slopeLags {
		early := f.group(f.newest-lag, groupSlots)
		if early.count == 0 || !early.known {
			continue
		}
		span := late.instants/late.count - early.instants/early.count
		if span <= 0 || early.mostLeft+perSecond*(span+groupSlots*slotWidth.seconds()) > limit {
			continue
		}
		fall := (early.middle/early.count - late.middle/late.count) / span
		uncertain := (early.width/early.count + late.width/late.count) / 2 / span
		if uncertain > max(0.05*perSecond, math.Abs(fall)/2) {
			continue
		}
		f.approach(max(0, min(fall, othersMost*perSecond)))
		return
	}
}

// approach moves the foreign use towards a measurement: up fast, down slowly.
func (f *otherUsage) approach(measured float64) {
	if measured > f.perSecond {
		f.perSecond += (measured - f.perSecond) / 2
		return
	}
	f.perSecond += (measured - f.perSecond) / 10
}

// lowerBound is what is there at least according to the latest words, in tokens; false where none knows.
func (f *otherUsage) lowerBound(perSecond, limit, total float64, now ledgerTime) (float64, bool) {
	standing, certain := math.Inf(1), math.Inf(1)
	for id := f.newest; id > f.newest-freshSlots; id-- {
		s := f.slot(id)
		if s == nil {
			continue
		}
		if !s.known {
			return 0, false
		}
		standing, certain = min(standing, s.least), min(certain, s.leastCertain)
	}
	if math.IsInf(standing, 1) {
		return 0, false
	}
	since := now.seconds() - float64(f.newest)*slotWidth.seconds()
	// The bucket may have run full since: then all that is certain is a full one less all that came after.
	return min(standing+perSecond*now.seconds()-total, limit-(total-certain)) - f.perSecond*since, true
}

// onOvershoot widens the cushion: the bucket had less than we thought.
func (f *otherUsage) onOvershoot(gap, capacity int64) {
	f.safetyMargin = max(f.safetyMargin, min(gap, capacity/overshootShare))
}

// coverClusters keeps the cushion as wide as others' use is uneven.
func (f *otherUsage) coverClusters(capacity int64) {
	f.safetyMargin = max(f.safetyMargin, min(int64(f.perSecond*clusterTime.Seconds()*micro), capacity/marginShare))
}

// onRejection widens the cushion after a call was turned away that should have been admitted.
func (f *otherUsage) onRejection(capacity int64) {
	f.safetyMargin = min(max(2*f.safetyMargin, capacity/100), capacity/marginShare)
}

// fade forgets slowly.
func (f *otherUsage) fade(elapsed ledgerTime, perSecond float64) {
	f.safetyMargin = int64(float64(f.safetyMargin) * math.Exp2(-float64(elapsed)/float64(marginHalfLife)))
	f.perSecond = max(0, f.perSecond-othersFade*perSecond*elapsed.seconds())
}
