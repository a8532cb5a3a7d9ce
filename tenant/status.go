package tenant

import "fmt"

// Status says whether a tenant's bot may be used.
type Status uint8

const (
	// Active: the bot may be used. It is the zero Status.
	Active Status = iota
	// Suspended: somebody switched it off, with [Manager.Suspend].
	Suspended
	// Quarantined: Telegram rejected its token for as long as ConfirmFor of
	// [ManagerConfig] says. [Manager.Rotate] with a new token makes it active again.
	// So does [Manager.Resume] where Telegram accepts the old one again; a manager
	// that was started tries that once a day.
	Quarantined
)

var statusNames = [...]string{"active", "suspended", "quarantined"}

// String returns the status's name, such as "active".
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// MarshalText returns the status's name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status's name. Any other text is an error: a status
// that is not known must not be taken for active.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("tenant: unknown status %q", text)
}
