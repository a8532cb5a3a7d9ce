package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tgfleet/tgfleet/retry"
)

var errUnavailable = errors.New("unavailable")

func ExamplePolicy_Do() {
	policy, err := retry.New(retry.Config{Retries: 5, Initial: time.Millisecond})
	if err != nil {
		panic(err)
	}
	calls := 0
	err = policy.Do(context.Background(), func(context.Context) error {
		if calls++; calls < 3 {
			return errUnavailable
		}
		return nil
	})
	fmt.Println(calls, err)
	// Output: 3 <nil>
}

func ExampleDoValue() {
	var policy retry.Policy // three retries, after about 1, 2 and 4 seconds
	n, err := retry.DoValue(context.Background(), policy, func(context.Context) (int, error) { return 42, nil })
	fmt.Println(n, err)
	// Output: 42 <nil>
}

// What an error says of itself is in the hands of those who know.
func ExampleConfig_classify() {
	errNoSuchUser := errors.New("no such user")
	policy, err := retry.New(retry.Config{
		Classify: func(err error) retry.Decision {
			if errors.Is(err, errNoSuchUser) {
				return retry.Decision{}
			}
			return retry.Classify(err)
		},
	})
	if err != nil {
		panic(err)
	}
	calls := 0
	err = policy.Do(context.Background(), func(context.Context) error { calls++; return errNoSuchUser })
	fmt.Println(calls, err)
	// Output: 1 no such user
}

// A thousand calls of a host that is down are at most 1110 attempts: a tenth
// more, and the 10 that were saved up.
func ExampleBudget() {
	budget, err := retry.NewBudget(retry.BudgetConfig{Share: 0.1, Burst: 10, KeyBurst: -1})
	if err != nil {
		panic(err)
	}
	policy, err := retry.New(retry.Config{Initial: 1, Budget: budget})
	if err != nil {
		panic(err)
	}
	attempts := 0
	for range 1000 {
		_ = policy.For("api.example").Do(context.Background(), func(context.Context) error {
			attempts++
			return errUnavailable
		})
	}
	fmt.Println(attempts) // what the first call earns finds the budget full
	// Output: 1109
}

// A loop of one's own sends something else each time, and gives up when there
// is nothing left to send it to.
func ExampleState() {
	policy, err := retry.New(retry.Config{Initial: time.Millisecond})
	if err != nil {
		panic(err)
	}
	send := func(ctx context.Context, host string) error { return fmt.Errorf("%s: %w", host, errUnavailable) }
	run := func(ctx context.Context, hosts ...string) error {
		s := policy.Start()
		for {
			err := send(ctx, hosts[0])
			if err == nil {
				return nil
			}
			decision := retry.Classify(err)
			if hosts = hosts[1:]; len(hosts) == 0 {
				decision = retry.Decision{Action: retry.Stop}
			}
			delay, ok := s.Decide(ctx, err, decision)
			if !ok {
				fmt.Println("after", s.Attempts(), "attempts:", s.Reason())
				return s.Err()
			}
			if err := s.Wait(ctx, delay); err != nil {
				return err
			}
		}
	}
	fmt.Println(run(context.Background(), "a.example", "b.example"))
	// Output:
	// after 2 attempts: judged
	// b.example: unavailable
}
