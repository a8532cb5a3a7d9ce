package errors_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

func post(err error) error {
	return &url.Error{Op: "Post", URL: "https://api.telegram.org/bot" + canaryToken + "/getMe", Err: err}
}

func TestAnUnclassifiedErrorHasTheKindOfWhatItIs(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for name, row := range map[string]struct {
		err  error
		want errors.Kind
	}{
		"the caller gave up":                 {context.Canceled, errors.Canceled},
		"the caller gave up during a call":   {post(context.Canceled), errors.Canceled},
		"the caller's deadline passed":       {post(context.DeadlineExceeded), errors.Timeout},
		"a deadline of a connection":         {&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, errors.Timeout},
		"the kernel's time-out":              {post(&net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}), errors.Timeout},
		"a name server's time-out":           {&net.DNSError{IsTimeout: true}, errors.Timeout},
		"an unknown host":                    {post(&net.DNSError{IsNotFound: true}), errors.ConnectionFailed},
		"refused":                            {post(dial), errors.ConnectionFailed},
		"refused, bare":                      {syscall.ECONNREFUSED, errors.ConnectionFailed},
		"reset":                              {syscall.ECONNRESET, errors.ConnectionFailed},
		"broken pipe":                        {syscall.EPIPE, errors.ConnectionFailed},
		"a closed connection":                {net.ErrClosed, errors.ConnectionFailed},
		"the end of a connection":            {post(io.EOF), errors.ConnectionFailed},
		"the middle of a reply":              {post(io.ErrUnexpectedEOF), errors.ConnectionFailed},
		"net/http without a type":            {post(errors.New("http: server closed idle connection")), errors.ConnectionFailed},
		"an unknown authority":               {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, errors.ConnectionFailed},
		"no TLS there":                       {tls.RecordHeaderError{Msg: "x"}, errors.ConnectionFailed},
		"a TLS alert":                        {fmt.Errorf("x: %w", tls.AlertError(40)), errors.ConnectionFailed},
		"a bad URL":                          {&url.Error{Op: "parse", URL: "::", Err: errors.New("x")}, errors.Internal},
		"an upload's file that is not there": {post(&fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}), errors.Internal},
		"the end of a file":                  {io.EOF, errors.Internal},
		"a handler's own JSON":               {&json.SyntaxError{}, errors.Internal},
		"anything":                           {errors.New("timeout 429 unauthorized"), errors.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			err := errors.Join(errors.New("first"), fmt.Errorf("greet: %w", row.err))
			assert.Equal(t, row.want, errors.KindOf(err))
			e := errors.Classify(err)
			assert.Equal(t, row.want, e.Kind)
			assert.False(t, errors.SafeToRepeat(err), "nobody knows how far it came")
			assert.False(t, errors.SafeToRepeat(e))
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", e, e, e), "canary")
		})
	}
}

func TestClassifyKeepsAnError(t *testing.T) {
	assert.Nil(t, errors.Classify(nil))
	e := &errors.Error{Kind: errors.Blocked}
	assert.Same(t, e, errors.Classify(fmt.Errorf("x: %w", e)))
	bare := errors.Classify(fmt.Errorf("x: %w", errors.PoolFull))
	assert.Equal(t, errors.PoolFull, bare.Kind)
	assert.ErrorIs(t, bare, errors.PoolFull)
}

func TestClassifyLeavesTheRequestOut(t *testing.T) {
	given := &gotgbot.TelegramError{
		Method: "sendMessage", Code: 400, Description: "Bad Request: chat not found",
		Params: map[string]any{"text": "canary"},
	}
	e := errors.Classify(fmt.Errorf("x: %w", given))
	assert.Equal(t, errors.ChatNotFound, e.Kind)
	cause, ok := errors.AsType[*gotgbot.TelegramError](e)
	require.True(t, ok, "code that looks for gotgbot's error finds it")
	assert.Nil(t, cause.Params)
	all, err := json.Marshal(e)
	require.NoError(t, err)
	assert.NotContains(t, fmt.Sprintf("%+v %#v %+v %#v", e, e, cause, cause)+string(all), "canary")
}
