package wiretest_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var protocols = []wiretest.Protocol{wiretest.HTTP1, wiretest.HTTP1TLS, wiretest.HTTP2}

func start(t *testing.T, p wiretest.Protocol, scripts ...wiretest.Script) *wiretest.Server {
	t.Helper()
	s, err := wiretest.Start(p, scripts...)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{TLSClientConfig: wiretest.ClientTLS(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post sends a call whose body net/http can't send again by itself.
func post(c *http.Client, url string, id int) (*http.Response, string, error) {
	body := io.MultiReader(strings.NewReader(fmt.Sprintf(`{"text":%q}`, wiretest.ID(id))))
	resp, err := c.Post(url, "application/json", body)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestAServerWithoutScriptsExecutesEveryCall(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			s, c := start(t, p), client(t)
			for range 3 {
				resp, text, err := post(c, s.URL(), 1)
				require.NoError(t, err)
				assert.Equal(t, wiretest.Good, text)
				assert.Equal(t, p == wiretest.HTTP2, resp.ProtoMajor == 2)
			}
			_, _, err := post(c, s.URL(), 2)
			require.NoError(t, err)
			s.Close()
			assert.Equal(t, 3, s.Executed(wiretest.ID(1)))
			assert.Equal(t, 1, s.Executed(wiretest.ID(2)))
			assert.Zero(t, s.Executed(wiretest.ID(3)))
			assert.Equal(t, 4, s.Arrived())
		})
	}
}

func TestAServerFailsAtEveryPoint(t *testing.T) {
	for _, p := range protocols {
		for at := wiretest.OnAccept; at <= wiretest.AfterAnswer; at++ {
			if p == wiretest.HTTP1 && (at == wiretest.AfterClientHello || at == wiretest.InServerHello) {
				continue
			}
			for _, executes := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v/%v/%v", p, at, executes), func(t *testing.T) {
					script := wiretest.Script{At: at, Offset: 300, Fault: wiretest.HalfClose, NotExecuted: !executes}
					if at == wiretest.BeforeLastChunk {
						script.Answer = &wiretest.Answer{Body: wiretest.Good, Chunked: true}
					}
					if at == wiretest.AfterInformational {
						script.Answer = &wiretest.Answer{Body: wiretest.Good, Informational: 103}
					}
					s, c := start(t, p, script), client(t)
					_, _, err := post(c, s.URL(), 1)
					if at == wiretest.AfterAnswer || at == wiretest.AtAnswerByte || p == wiretest.HTTP2 && at == wiretest.BeforeLastChunk {
						assert.NoError(t, err, "the answer is complete")
					} else {
						assert.Error(t, err)
					}
					c.CloseIdleConnections()
					want := 0
					if executes && at >= wiretest.AtRequestByte {
						want = 1 // the request is shorter than 300 bytes
					}
					_, _, err = post(c, s.URL(), 2)
					assert.NoError(t, err, "a script is for one request")
					s.Close()
					assert.Equal(t, want, s.Executed(wiretest.ID(1)))
					assert.Equal(t, 1, s.Executed(wiretest.ID(2)))
				})
			}
		}
	}
}

func TestAServerAnswersAsTold(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			answers := []*wiretest.Answer{
				wiretest.Page(503, "text/html", "<html>busy</html>"),
				wiretest.Page(204, "", ""),
				wiretest.Refusal(429, "Too Many Requests: retry after 3", `{"retry_after":3}`),
				{Status: 502, Header: []string{"Retry-After: 3"}, Body: "busy", Chunked: true},
				{Body: "hinted", Informational: 103},
			}
			s, c := start(t, p), client(t)
			for i, a := range answers {
				s.Add(wiretest.Script{Answer: a, NotExecuted: i%2 == 0})
				resp, text, err := post(c, s.URL(), i)
				require.NoError(t, err)
				assert.Equal(t, max(a.Status, a.Informational/103*200), resp.StatusCode)
				assert.Equal(t, a.Body, text)
				assert.Equal(t, i%2, s.Executed(wiretest.ID(i)))
				if i == 3 {
					assert.Equal(t, "3", resp.Header.Get("Retry-After"))
				}
			}
			s.Add(wiretest.Script{Answer: &wiretest.Answer{Body: "short", Length: 99}, At: wiretest.AfterAnswer, Fault: wiretest.HalfClose})
			_, _, err := post(c, s.URL(), 9)
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		})
	}
}

func TestFaultsOfAStreamSayTheirName(t *testing.T) {
	for want, script := range map[string]wiretest.Script{
		"ENHANCE_YOUR_CALM; received from peer": {At: wiretest.AfterRequest, Fault: wiretest.ResetStream(wiretest.EnhanceYourCalm)},
		"INTERNAL_ERROR":                        {At: wiretest.InBody, Fault: wiretest.ResetStream(wiretest.InternalError)},
		"REFUSED_STREAM":                        {At: wiretest.AfterRequestHeaders, Fault: wiretest.ResetStream(wiretest.RefusedStream)},
		"GOAWAY from server ErrCode:CANCEL":     {At: wiretest.AfterRequest, Fault: wiretest.GoAwayExcluding(wiretest.Cancel)},
		"LastStreamID=1, ErrCode=CANCEL":        {At: wiretest.AfterRequest, Fault: wiretest.GoAwayThenClose(wiretest.Cancel)},
		"cannot retry":                          {At: wiretest.AfterRequest, Fault: wiretest.GoAwayExcludingThenClose(wiretest.NoError)},
	} {
		t.Run(want, func(t *testing.T) {
			s, c := start(t, wiretest.HTTP2, script), client(t)
			_, _, err := post(c, s.URL(), 1)
			assert.ErrorContains(t, err, want)
		})
	}
	t.Run("the answer follows a GOAWAY", func(t *testing.T) {
		s, c := start(t, wiretest.HTTP2, wiretest.Script{At: wiretest.AfterRequest, Fault: wiretest.GoAwayThenAnswer()}), client(t)
		_, _, err := post(c, s.URL(), 1)
		assert.NoError(t, err)
	})
	for _, f := range wiretest.BadFrames() {
		t.Run(f.String(), func(t *testing.T) {
			s, c := start(t, wiretest.HTTP2, wiretest.Script{At: wiretest.AfterRequest, Fault: f}), client(t)
			_, _, err := post(c, s.URL(), 1)
			assert.Error(t, err)
		})
	}
}

func TestAServerRefusesConnectionsUntilItListens(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			s, err := wiretest.Reserve(p)
			require.NoError(t, err)
			defer s.Close()
			c := client(t)
			_, _, err = post(c, s.URL(), 1)
			assert.ErrorIs(t, err, syscall.ECONNREFUSED)
			require.NoError(t, s.Listen())
			require.NoError(t, s.Listen())
			_, _, err = post(c, s.URL(), 1)
			assert.NoError(t, err)
			assert.Equal(t, 1, s.Executed(wiretest.ID(1)))
		})
	}
}

func TestAHandshakeFails(t *testing.T) {
	s, c := start(t, wiretest.HTTP2, wiretest.Script{At: wiretest.OnAccept, Fault: wiretest.WrongCertificate}), client(t)
	_, _, err := post(c, s.URL(), 1)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	assert.True(t, untrusted, "%v", err)
	s.Add(wiretest.Script{At: wiretest.AfterClientHello, Fault: wiretest.Alert})
	_, _, err = post(c, s.URL(), 1)
	assert.ErrorContains(t, err, "handshake failure")
	_, _, err = post(c, s.URL(), 1)
	assert.NoError(t, err)
}

func TestAnIdleConnectionFails(t *testing.T) {
	faults := map[wiretest.Protocol][]wiretest.Fault{
		wiretest.HTTP1:    {wiretest.Close, wiretest.Reset, wiretest.HalfClose},
		wiretest.HTTP1TLS: {wiretest.Close, wiretest.Reset, wiretest.HalfClose, wiretest.CloseNotify},
		wiretest.HTTP2:    {wiretest.Close, wiretest.GoAwayExcluding(wiretest.NoError), wiretest.GoAwayThenClose(wiretest.NoError)},
	}
	for _, p := range protocols {
		for _, f := range faults[p] {
			t.Run(fmt.Sprintf("%v/%v", p, f), func(t *testing.T) {
				s, c := start(t, p), client(t)
				_, _, err := post(c, s.URL(), 1)
				require.NoError(t, err)
				s.FailIdle(f, false)
				_, _, err = post(c, s.URL(), 2)
				s.Close()
				if err == nil {
					assert.Equal(t, 1, s.Executed(wiretest.ID(2)), "a new connection")
				} else {
					assert.Zero(t, s.Executed(wiretest.ID(2)))
				}
			})
		}
	}
}

func TestAProxyRefusesAndConnects(t *testing.T) {
	target := start(t, wiretest.HTTP2)
	proxy := start(t, wiretest.HTTP1, wiretest.Script{Answer: wiretest.Page(407, "text/html", "who?"), At: wiretest.AfterAnswer, Fault: wiretest.Close})
	c := client(t)
	at, err := url.Parse(proxy.URL())
	require.NoError(t, err)
	c.Transport.(*http.Transport).Proxy = http.ProxyURL(at)
	_, _, err = post(c, target.URL(), 1)
	assert.ErrorContains(t, err, "Proxy Authentication Required")
	assert.Zero(t, target.Arrived())
	_, _, err = post(c, target.URL(), 1)
	assert.NoError(t, err)
	assert.Equal(t, 1, target.Executed(wiretest.ID(1)))
	assert.Equal(t, 2, proxy.Arrived())
}
