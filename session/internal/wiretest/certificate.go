package wiretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"time"
)

// The certificates are made once, in memory. Servers share their
// configurations and so their session tickets: a resumed handshake costs a
// third.
var (
	trusted  = sync.OnceValue(makeCertificate)
	stranger = sync.OnceValue(makeCertificate)

	serverTLS = map[Protocol]func() *tls.Config{
		HTTP1TLS: sync.OnceValue(func() *tls.Config { return configTLS(trusted(), "http/1.1") }),
		HTTP2: sync.OnceValue(func() *tls.Config {
			cfg := configTLS(trusted(), "h2")
			cfg.MaxVersion = tls.VersionTLS12 // HTTP/1.1 has the later version
			return cfg
		}),
	}
	strangerTLS = sync.OnceValue(func() *tls.Config { return configTLS(stranger(), "h2", "http/1.1") })
)

// ClientTLS returns a configuration that trusts the servers.
func ClientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(trusted().Leaf)
	return &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(0), CurvePreferences: cheap}
}

func configTLS(cert tls.Certificate, protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols, CurvePreferences: cheap}
}

// cheap is the key exchange that has assembly, so the race detector does not
// make it ten times as slow.
var cheap = []tls.CurveID{tls.CurveP256}

// makeCertificate panics, since it fails only without a source of randomness.
func makeCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.ParseIP(loopback), net.ParseIP(reserved)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
