// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math"
	"time"
)

const (
	// slotWidth is the resolution at which observations are kept, by the time of admission; slotCount is their number.
	slotWidth = ledgerTime(250 * time.Millisecond)
	slotCount = 64
	// freshSlots is the number of latest slots that the lower bound is taken over.
	freshSlots = 4
	// groupSlots is the number of slots that are averaged at either end of a slope.
	groupSlots = 3

	// marginHalfLife is how fast the safety margin shrinks, marginShare its largest part of the limit, as a divisor.
	marginHalfLife = 60 * time.Second
	marginShare    = 10
	// overshootShare is the largest part of the limit, as a divisor, by which one overshoot widens the margin.
	overshootShare = 20
	// clusterTime is the time whose use by others may come all at once: their calls come in clusters. It is half the
	// age of an observation.
	clusterTime = 4 * time.Second
	// othersFade is how much of the estimated other usage is dropped per second, as a part of the refill.
	othersFade = 0.002
	// othersMost is the largest part of the refill that is attributed to others: the rest keeps testing the estimate.
	othersMost = 0.95
	// estimateEvery is the minimum interval between estimates of other usage.
	estimateEvery = ledgerTime(100 * time.Millisecond)
)

// slopeLags are the distances over which other usage is measured, in slots. The shortest one with sufficient accuracy
// is used, because it is the most recent.
var slopeLags = [...]int64{8, 16, 32}

// slot aggregates the observations of a quarter of a second.
//
// They are kept as normalised levels: level + own charges − refill. Only other usage and a full bucket change that sum,
// so observations of different times can be compared.
type slot struct {
	id           int64 // which quarter of a second; slots are reused
	count        float64
	middle       float64 // sum of the middles of the normalised levels
	width        float64 // sum of the widths of their intervals
	times        float64 // sum of the times of admission, in seconds
	least        float64 // the smallest lower bound of a normalised level
	leastCertain float64 // the smallest observation.certain
	mostLeft     float64 // the largest observation.remaining
	known        bool    // every observation has a lower bound
}

// otherUsage estimates from observations what other clients take from a bucket, and how reliable observations are.
type otherUsage struct {
	slots    [slotCount]slot
	newest   int64 // id of the latest slot
	observed bool
	at       ledgerTime // when the last observation arrived

	// rate is the estimated other usage, in units per second. It includes charges for own calls beyond their
	// reservations, which lower the level in the same way.
	rate      float64
	estimated ledgerTime
	// safetyMargin is what is left unused in the bucket because of earlier overshoots and other usage, in micro.
	safetyMargin int64
}

// reset discards all observations, which were made under a different limit.
func (o *otherUsage) reset() { o.slots, o.observed = [slotCount]slot{}, false }

// note records an observation. refill is the limit's refill per second.
func (o *otherUsage) note(obs observation, refill float64) {
	upper := obs.upperLevel(refill)
	lower := float64(obs.remaining) - refill*obs.to.seconds() + float64(obs.certain)
	id := int64(math.Floor(obs.to.seconds() / slotWidth.seconds()))
	if o.observed && id <= o.newest-slotCount {
		return
	}
	if !o.observed || id > o.newest {
		o.newest, o.observed = id, true
	}
	s := &o.slots[((id%slotCount)+slotCount)%slotCount]
	if s.count == 0 || s.id != id {
		*s = slot{id: id, least: lower, leastCertain: float64(obs.certain), known: true}
	}
	s.count++
	s.middle += (upper + lower) / 2
	s.width += upper - lower
	s.times += obs.to.seconds()
	s.least = min(s.least, lower)
	s.leastCertain = min(s.leastCertain, float64(obs.certain))
	s.mostLeft = max(s.mostLeft, float64(obs.remaining))
	s.known = s.known && obs.certainKnown
}

// slot returns the observations of one quarter of a second, or nil.
func (o *otherUsage) slot(id int64) *slot {
	s := &o.slots[((id%slotCount)+slotCount)%slotCount]
	if s.count == 0 || s.id != id {
		return nil
	}
	return s
}

// group sums up count slots, of which last is the latest.
func (o *otherUsage) group(last, count int64) slot {
	sum := slot{known: true}
	for id := last; id > last-count; id-- {
		s := o.slot(id)
		if s == nil {
			continue
		}
		sum.count += s.count
		sum.middle += s.middle
		sum.width += s.width
		sum.times += s.times
		sum.mostLeft = max(sum.mostLeft, s.mostLeft)
		sum.known = sum.known && s.known
	}
	return sum
}

// estimate updates the rate from the fall of the normalised levels, over the shortest lag at which the uncertainty of
// the observations is small in comparison. Spans in which the bucket may have been full are skipped: refill that is
// lost to a full bucket looks like other usage.
func (o *otherUsage) estimate(refill, limit float64, now ledgerTime) {
	o.at = now
	if now-o.estimated < estimateEvery {
		return
	}
	o.estimated = now
	late := o.group(o.newest, groupSlots)
	if late.count == 0 || !late.known {
		return
	}
	for _, lag := range slopeLags {
		early := o.group(o.newest-lag, groupSlots)
		if early.count == 0 || !early.known {
			continue
		}
		span := late.times/late.count - early.times/early.count
		if span <= 0 || early.mostLeft+refill*(span+groupSlots*slotWidth.seconds()) > limit {
			continue
		}
		fall := (early.middle/early.count - late.middle/late.count) / span
		uncertain := (early.width/early.count + late.width/late.count) / 2 / span
		if uncertain > max(0.05*refill, math.Abs(fall)/2) {
			continue
		}
		o.approach(max(0, min(fall, othersMost*refill)))
		return
	}
}

// approach moves the rate towards a measurement: up fast, down slowly.
func (o *otherUsage) approach(measured float64) {
	if measured > o.rate {
		o.rate += (measured - o.rate) / 2
		return
	}
	o.rate += (measured - o.rate) / 10
}

// lowerBound is the least that the bucket holds according to the latest observations, in tokens; false if that is
// unknown. total is everything reserved so far.
func (o *otherUsage) lowerBound(refill, limit, total float64, now ledgerTime) (float64, bool) {
	least, certain := math.Inf(1), math.Inf(1)
	for id := o.newest; id > o.newest-freshSlots; id-- {
		s := o.slot(id)
		if s == nil {
			continue
		}
		if !s.known {
			return 0, false
		}
		least, certain = min(least, s.least), min(certain, s.leastCertain)
	}
	if math.IsInf(least, 1) {
		return 0, false
	}
	since := now.seconds() - float64(o.newest)*slotWidth.seconds()
	// The bucket may have been full since: then only a full bucket less all later reservations is certain.
	return min(least+refill*now.seconds()-total, limit-(total-certain)) - o.rate*since, true
}

// onOvershoot widens the safety margin: the bucket held less than expected, by gap.
func (o *otherUsage) onOvershoot(gap, capacity int64) {
	o.safetyMargin = max(o.safetyMargin, min(gap, capacity/overshootShare))
}

// coverClusters keeps the safety margin wide enough for a cluster of calls of others.
func (o *otherUsage) coverClusters(capacity int64) {
	o.safetyMargin = max(o.safetyMargin, min(int64(o.rate*clusterTime.Seconds()*micro), capacity/marginShare))
}

// onRejection widens the safety margin after the rejection of a call that should have been admitted.
func (o *otherUsage) onRejection(capacity int64) {
	o.safetyMargin = min(max(2*o.safetyMargin, capacity/100), capacity/marginShare)
}

// fade lets rate and safety margin decay.
func (o *otherUsage) fade(elapsed ledgerTime, refill float64) {
	o.safetyMargin = int64(float64(o.safetyMargin) * math.Exp2(-float64(elapsed)/float64(marginHalfLife)))
	o.rate = max(0, o.rate-othersFade*refill*elapsed.seconds())
}
