package webhook

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// read reads a request's body. The status is what to refuse it with, or 0.
func (rc *Receiver) read(w http.ResponseWriter, r *http.Request) (raw []byte, status int) {
	// The server takes the deadline away when it has met the body's end, which
	// it looks for also behind what is refused. What can't set one, such as a
	// recorder, has no slow bodies to fear.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(rc.cfg.BodyTimeout))
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, http.StatusUnsupportedMediaType
	}
	if r.ContentLength > rc.cfg.MaxBody {
		return nil, http.StatusRequestEntityTooLarge
	}
	if r.Header.Get("Content-Encoding") != "" {
		return nil, http.StatusUnsupportedMediaType
	}
	var err error
	if n := r.ContentLength; n >= 0 {
		raw = make([]byte, n+1) // the last is for what must not be there
		_, err = io.ReadFull(r.Body, raw[:n])
		if err == nil {
			err = atEnd(r.Body, raw[n:])
			raw = raw[:n:n]
		}
	} else {
		raw, err = io.ReadAll(io.LimitReader(r.Body, rc.cfg.MaxBody+1))
		if err == nil && int64(len(raw)) > rc.cfg.MaxBody {
			return nil, http.StatusRequestEntityTooLarge
		}
	}
	switch {
	case err == nil:
		return raw, 0
	case late(err):
		return nil, http.StatusRequestTimeout
	default:
		return nil, http.StatusBadRequest
	}
}

func late(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, os.ErrDeadlineExceeded) || ok && timeout.Timeout()
}

// atEnd reads the end of a body, from where on the server watches the
// connection. room is for a byte.
func atEnd(body io.Reader, room []byte) error {
	switch n, err := body.Read(room); {
	case n > 0:
		return errors.New("body is longer than its length")
	case err == nil || err == io.EOF:
		return nil
	default:
		return err
	}
}

// isJSON reports whether a content type is JSON's, whatever its parameters.
func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}
