package health

import "fmt"

// Status is a tenant's state in one word. A greater one is worse.
type Status uint8

const (
	// Healthy: most calls succeed, or too few were made to say. It is the zero
	// Status.
	Healthy Status = iota
	// Degraded: a good part of the calls fail, or updates do not get through.
	Degraded
	// Unhealthy: most calls fail, or all of late did.
	Unhealthy
	// Suspended: switched off, by hand or because Telegram no longer accepts
	// the token. It stays so until [Monitor.Resume].
	Suspended

	statuses // how many there are
)

var statusNames = [statuses]string{"healthy", "degraded", "unhealthy", "suspended"}

// String returns the status's name, such as "degraded".
func (s Status) String() string {
	if s < statuses {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// MarshalText returns the status's name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status's name; any other text is an error.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("health: unknown status %q", text)
}

// Breaker is the state of a tenant's circuit breaker, for those who look.
type Breaker uint8

const (
	// BreakerClosed: calls go through. It is the zero Breaker.
	BreakerClosed Breaker = iota
	// BreakerHalfOpen: a few calls go through, to see whether they succeed.
	BreakerHalfOpen
	// BreakerOpen: no call goes through.
	BreakerOpen
)

var breakerNames = [...]string{"closed", "half_open", "open"}

// String returns the state's name, such as "half_open".
func (b Breaker) String() string {
	if int(b) < len(breakerNames) {
		return breakerNames[b]
	}
	return fmt.Sprintf("Breaker(%d)", uint8(b))
}

// MarshalText returns the state's name.
func (b Breaker) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a state's name; any other text is an error.
func (b *Breaker) UnmarshalText(text []byte) error {
	for i, name := range breakerNames {
		if name == string(text) {
			*b = Breaker(i)
			return nil
		}
	}
	return fmt.Errorf("health: unknown breaker state %q", text)
}
