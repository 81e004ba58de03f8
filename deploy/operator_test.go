package deploy_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// operator admits by credentials files. The account's key for signing users is
// another one in each generation, so users of the last one are strangers.
type operator struct {
	keys, system, account nkeys.KeyPair
	observerJWT           string
	observerKeys          nkeys.KeyPair
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	return &operator{keys: keyPair(t, nkeys.CreateOperator), system: keyPair(t, nkeys.CreateAccount), account: keyPair(t, nkeys.CreateAccount)}
}

func keyPair(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	keys, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func public(t *testing.T, keys nkeys.KeyPair) string {
	t.Helper()
	key, err := keys.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodeClaims(t *testing.T, c jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := c.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (o *operator) next(t *testing.T, _ int) (string, map[string][]byte) {
	t.Helper()
	signer := keyPair(t, nkeys.CreateAccount)
	account := jwt.NewAccountClaims(public(t, o.account))
	account.SigningKeys.Add(public(t, signer))
	account.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	operator := jwt.NewOperatorClaims(public(t, o.keys))
	operator.SystemAccount = public(t, o.system)
	conf := fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %[2]s: %s, %s: %s }\n",
		encodeClaims(t, operator, o.keys),
		public(t, o.system), encodeClaims(t, jwt.NewAccountClaims(public(t, o.system)), o.keys),
		public(t, o.account), encodeClaims(t, account, o.keys))
	own := keyPair(t, nkeys.CreateUser)
	seed, err := own.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(o.user(t, own, signer), seed)
	if err != nil {
		t.Fatal(err)
	}
	o.observerKeys = keyPair(t, nkeys.CreateUser)
	o.observerJWT = o.user(t, o.observerKeys, signer)
	return conf, map[string][]byte{"nats.creds": creds}
}

func (o *operator) user(t *testing.T, keys, signer nkeys.KeyPair) string {
	t.Helper()
	user := jwt.NewUserClaims(public(t, keys))
	user.IssuerAccount = public(t, o.account)
	return encodeClaims(t, user, signer)
}

func (o *operator) observer(int) nats.Option {
	token, keys := o.observerJWT, o.observerKeys
	return nats.UserJWT(func() (string, error) { return token, nil }, keys.Sign)
}
