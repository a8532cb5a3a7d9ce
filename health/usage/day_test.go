package usage

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The zones in which clocks go forward or back at midnight, or a day is left out.
func TestADayBeginsWhenItsDateIsFirstShown(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Santiago", "America/Havana", "Atlantic/Azores", "Africa/Cairo",
		"Asia/Beirut", "Asia/Tehran", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "America/Asuncion"} {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(name)
			require.NoError(t, err)
			var last time.Time
			for date := time.Date(2008, 1, 1, 0, 0, 0, 0, time.UTC); date.Year() < 2030; date = date.AddDate(0, 0, 1) {
				start := startOfDay(date, zone)
				if !last.IsZero() {
					require.False(t, start.Before(last), "%v", date)
				}
				last = start
				require.True(t, dateOf(start.Add(-1)).Before(date), "%v begins at %v or before", date, start)
				if date.Equal(time.Date(2011, 12, 30, 0, 0, 0, 0, time.UTC)) && name == "Pacific/Apia" {
					continue // it never was
				}
				require.Equal(t, date, dateOf(start), "%v", start)
			}
		})
	}
}

func TestAReportHasEachDayOnceWhereMidnightIsLeftOut(t *testing.T) {
	for _, c := range []struct{ zone, change string }{
		{"America/Santiago", "2024-09-08"}, {"America/Santiago", "2024-04-07"}, {"America/Havana", "2024-03-10"}, {"America/Havana", "2024-11-03"},
		{"Atlantic/Azores", "2024-03-31"}, {"Atlantic/Azores", "2024-10-27"}, {"Africa/Cairo", "2024-04-26"}, {"Africa/Cairo", "2024-11-01"},
		{"Asia/Beirut", "2024-03-31"}, {"Asia/Beirut", "2024-10-27"},
	} {
		t.Run(c.zone+" "+c.change, func(t *testing.T) {
			zone, err := time.LoadLocation(c.zone)
			require.NoError(t, err)
			change, err := time.Parse(time.DateOnly, c.change)
			require.NoError(t, err)
			store := NewMemoryStore()
			r, err := New(Config{Store: store})
			require.NoError(t, err)
			wantHours := map[string]uint64{}
			q := query{days: 5, zone: zone}
			from, to := q.span(change.Add(60 * time.Hour))
			for at := from; at.Before(to); at = at.Add(time.Hour) {
				r.Observe("a", Call{At: at, Method: "getMe"})
				wantHours[at.Format(time.DateOnly)]++
			}
			require.NoError(t, r.Flush(t.Context()))
			rep, err := NewReporter(store, nil).Report(t.Context(), "a", from, to, zone)
			require.NoError(t, err)
			require.Len(t, rep.Days, 5)
			var sum uint64
			for i, d := range rep.Days {
				want := dateOf(from).AddDate(0, 0, i).Format(time.DateOnly)
				assert.Equal(t, want, d.Date)
				assert.Equal(t, wantHours[want], d.Requests, want)
				sum += d.Requests
			}
			assert.Equal(t, rep.Requests, sum)
			odd := fmt.Sprint(wantHours[c.change], wantHours[change.AddDate(0, 0, -1).Format(time.DateOnly)])
			assert.NotEqual(t, "24 24", odd, "the clock was changed, or this tests nothing")

			q.days = MaxDays
			from, to = q.span(change.Add(60 * time.Hour))
			rep, err = NewReporter(store, nil).Report(t.Context(), "a", from, to, zone)
			require.NoError(t, err)
			assert.Len(t, rep.Days, MaxDays)
		})
	}
}
