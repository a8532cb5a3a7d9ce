package usage

import (
	"sort"
	"time"
)

// day is a day of a report's zone, and what happened on it.
type day struct {
	date  string
	start time.Time
	Rollup
}

// daysOf returns the days of from's zone from that of from to that before to.
// It counts dates and not times: where the clocks go forward at midnight, as in
// Santiago, the midnight of a day may be at eleven of the day before, and who
// goes on from there never gets any further.
func daysOf(from, to time.Time) []day {
	var days []day
	for date := dateOf(from); ; date = date.AddDate(0, 0, 1) {
		start := startOfDay(date, from.Location())
		if !start.Before(to) {
			return days
		}
		days = append(days, day{date: date.Format(time.DateOnly), start: start})
	}
}

// dayAt returns the roll-up of the day that a time from the first to the last
// of them is on.
func dayAt(days []day, at time.Time) *Rollup {
	next := sort.Search(len(days), func(i int) bool { return days[i].start.After(at) })
	return &days[max(next-1, 0)].Rollup
}

// dateOf returns the date that a time has in its zone, as that date's midnight
// in UTC, which has no holes.
func dateOf(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// startOfDay returns when a date begins in a zone: at midnight, at the first of
// two where the clocks go back over it, and when they go forward where they
// leave it out.
func startOfDay(date time.Time, zone *time.Location) time.Time {
	y, m, d := date.Date()
	about := time.Date(y, m, d, 0, 0, 0, 0, zone) // right, or next to the change
	var first time.Time
	for _, near := range []time.Time{about.Add(-25 * time.Hour), about, about.Add(25 * time.Hour)} {
		_, offset := near.Zone()
		t := date.Add(-time.Duration(offset) * time.Second).In(zone)
		if _, own := t.Zone(); own == offset && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !first.IsZero() {
		return first
	}
	start, end := about.ZoneBounds()
	if dateOf(about).Before(date) {
		return end
	}
	return start
}
