package errors_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// greet stands for a call of the Bot API.
func greet(code int, description string) error {
	return fmt.Errorf("greet: %w", errors.FromTelegram("sendMessage", code, description, nil))
}

// Kinds are for causes that each have their own cure.
func Example() {
	err := greet(403, "Forbidden: bot was blocked by the user")

	switch errors.KindOf(err) {
	case errors.None:
		fmt.Println("greeted")
	case errors.Blocked, errors.NotStarted, errors.ChatGone:
		fmt.Println("unsubscribe the user")
	case errors.Unauthorized:
		fmt.Println("ask the owner for a new token")
	default:
		if errors.Temporary(err) && errors.SafeToRepeat(err) {
			fmt.Println("greet again in", errors.RetryAfter(err))
			return
		}
		fmt.Println("log", err)
	}
	// Output: unsubscribe the user
}

// The standard package's functions are here, so one import serves.
func ExampleIs() {
	err := greet(400, "Bad Request: message is not modified")
	fmt.Println(errors.Is(err, errors.NotModified))
	fmt.Println(err)
	// Output:
	// true
	// greet: sendMessage: message is not modified (400): Bad Request: message is not modified
}

// A person gets a friendly text, whatever the error says.
func ExampleFriendly() {
	err := fmt.Errorf("save token of user 7: %w", errors.TokenTaken)
	fmt.Println(errors.Friendly(err, "en"))
	fmt.Println(errors.Friendly(fmt.Errorf("pq: duplicate key"), "en"))
	// Output:
	// This bot is already connected to another account. Please disconnect it there first, or use another bot.
	// Something went wrong. Please try again or contact support.
}

// A catalogue adds a language. What it has no text for is English.
func ExampleTexts() {
	german := errors.CatalogueFunc(func(k errors.Kind, _ errors.Scope, wait time.Duration) (string, bool) {
		switch k {
		case errors.RateLimited, errors.Throttled:
			if n, unit := errors.RoundUp(wait); n > 0 && unit == time.Second {
				return fmt.Sprintf("Zu viele Anfragen. Bitte in %d Sekunden noch einmal versuchen.", n), true
			}
			return "Zu viele Anfragen. Bitte später noch einmal versuchen.", true
		default:
			return "", false
		}
	})
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{"de": german}}

	err := &errors.Error{Kind: errors.RateLimited, RetryAfter: 2500 * time.Millisecond}
	fmt.Println(texts.Friendly(err, "de-AT"))
	fmt.Println(texts.Friendly(errors.Timeout, "de-AT"))
	// Output:
	// Zu viele Anfragen. Bitte in 3 Sekunden noch einmal versuchen.
	// Telegram took too long to answer. Please try again.
}

// An HTTP client gets a problem document of RFC 9457.
func ExampleWriteProblem() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fmt.Errorf("open tenant 7: %w", &errors.Error{Kind: errors.PoolFull, RetryAfter: 3 * time.Second})
		errors.WriteProblem(w, r, err)
	})

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/bots", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	fmt.Println("Retry-After:", w.Header().Get("Retry-After"))
	fmt.Print(w.Body)
	// Output:
	// 503 application/problem+json
	// Retry-After: 3
	// {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"System is busy. Please try again in 3 seconds.","kind":"pool_full","retry_after":3}
}

// RetryAfter reads gotgbot's own errors too.
func ExampleRetryAfter() {
	err := fmt.Errorf("greet: %w", &gotgbot.TelegramError{
		Method:         "sendMessage",
		Code:           429,
		Description:    "Too Many Requests: retry after 30",
		ResponseParams: &gotgbot.ResponseParameters{RetryAfter: 30},
	})
	if errors.Temporary(err) {
		fmt.Println("again in", errors.RetryAfter(err))
	}
	// Output: again in 30s
}

// What stops a bot from polling tells what to do about it.
func ExampleConflictOf() {
	err := errors.FromTelegram("getUpdates", 409, "Conflict: can't use getUpdates method while webhook is active", nil)
	if errors.ConflictOf(err) == errors.ConflictWebhook {
		fmt.Println("delete the webhook first")
	}
	// Output: delete the webhook first
}
