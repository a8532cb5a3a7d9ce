// Package seal keeps secrets at rest: what it sealed is of no use to who holds
// the database but not the key.
//
//	ring, err := seal.FromEnv("TGFLEET_KEYS") // "2026-07:base64,2025-01:base64"
//	sealed, err := ring.Seal("bot token", "customer-7", []byte(token))
//	token, err := ring.Open("bot token", "customer-7", sealed)
//
// A [Ring] holds keys. The first one seals, all of them open. What is sealed
// names its key, and is bound to a purpose and an owner: copied to another
// tenant's row, or to another column, it does not open.
//
// # The first key
//
// A key is a name and 32 random bytes, which [GenerateKey] makes; [Key.Reveal]
// writes it as [Parse] reads it. So does a shell:
//
//	umask 077; echo "2026-07:$(head -c 32 /dev/urandom | base64)" > fleet.keys
//
// # Rotating a key
//
// Every step leaves every row readable by every replica:
//
//  1. Add the new key behind the old one, everywhere. It opens and does not
//     seal yet.
//  2. Put it in front, everywhere. From now on it seals.
//  3. Run [Reseal], which may be stopped and run again, until it found nothing
//     to do.
//  4. Take the old key away.
//
// A key that is missing or another than the one that sealed is an error that
// says so ([ErrNoKey], [ErrWrongKey]); the row stays as it is and opens again
// once the key is back.
//
// # The decision to make
//
// Where keys come from: the environment ([FromEnv]), a file ([FromFile]), or a
// key management service ([Unwrap]), which then is asked once at the start and
// not for every row. Not from the database that they protect, nor from its
// backups.
//
// # How it seals
//
// With the standard library: AES-256-GCM with a random nonce, under a key that
// HKDF-SHA256 derives from the ring's key, the purpose and the owner. Random
// nonces of 96 bits are good for 2^32 messages of one key; since each owner and
// purpose has a key of its own, that bound is each tenant's and out of reach.
// (XAES-256-GCM reaches the same with longer nonces; the standard library does
// not have it, and a cipher is not a thing to write oneself.)
//
// Tink was weighed. It would bring what the standard library has since Go 1.24
// (random nonces handled inside the AEAD, HKDF), and its key sets and KMS
// clients, at the price of protobuf and a dozen modules in the core of a
// library. An application that has its keys in Tink hands a tink.AEAD's Decrypt
// to [Unwrap].
//
// # What it does not do
//
// It hides what is sealed, not that there is something, nor how long it is. It
// does not protect a process whose memory is read. A row's old state, put back
// by who can write the database, opens like any other.
package seal
