package session

// For tests of observers without a guard around them.
var (
	HealthObserver = healthObserver
	UsageObserver  = usageObserver
)

// Observers tells several.
func Observers(all ...Observer) Observer { return observers(all) }
