package session

import (
	"net"
	"net/url"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// endpoint is a Bot API server: where its methods and files are.
type endpoint struct {
	scheme, host string
	prefix       string // path before "/bot", without a slash at its end
	test         bool
}

// cloudHost is the host of Telegram's own server, [gotgbot.DefaultAPIURL].
const cloudHost = "api.telegram.org"

// parseEndpoint reads an API URL. Its error repeats no part of the text, since
// people have been seen to paste URLs with tokens in them.
func parseEndpoint(text string, test bool) (endpoint, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return endpoint{}, errors.New("API URL can't be parsed")
	case u.Scheme != "http" && u.Scheme != "https":
		return endpoint{}, errors.New("API URL must start with http:// or https://")
	case u.Host == "":
		return endpoint{}, errors.New("API URL has no host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, errors.New("API URL must have no user, query or fragment")
	}
	return endpoint{
		scheme: u.Scheme,
		host:   u.Host,
		prefix: strings.TrimRight(u.Path, "/"),
		test:   test,
	}, nil
}

// base is the API URL without a slash at its end.
func (e endpoint) base() string { return e.scheme + "://" + e.host + e.prefix }

// address is what is dialed for the server where there is no proxy.
func (e endpoint) address() string {
	u := url.URL{Host: e.host}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[e.scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (e endpoint) environment() string {
	if e.test {
		return "/test/"
	}
	return "/"
}

// method is the URL of a method. It holds the token.
func (e endpoint) method(token Token, method string) url.URL {
	return url.URL{
		Scheme: e.scheme,
		Host:   e.host,
		Path:   e.prefix + "/bot" + token.Reveal() + e.environment() + method,
	}
}

// file is the URL of a file. It holds the token.
func (e endpoint) file(token Token, path string) *url.URL {
	return &url.URL{
		Scheme: e.scheme,
		Host:   e.host,
		Path:   e.prefix + "/file/bot" + token.Reveal() + e.environment() + path,
	}
}

// maskedFile is what may be shown of a file's URL.
func (e endpoint) maskedFile(token Token, path string) string {
	return e.base() + "/file/bot" + token.String() + e.environment() + path
}
