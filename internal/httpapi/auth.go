package httpapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// Caller is who a request is made for.
type Caller struct {
	// UserID is 1 to 128 characters without control characters.
	UserID string
}

// Authenticator finds out who a request is made for. Its errors are answered as UNAUTHORIZED, except for problems
// of its own.
type Authenticator interface {
	Authenticate(r *http.Request) (Caller, error)
}

// DefaultTrustedProxies are the loopback and private address ranges (RFC 1918, RFC 4193): where a gateway is.
func DefaultTrustedProxies() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fc00::/7"),
	}
}

// ParseTrustedProxies parses address ranges such as 10.0.0.0/8, separated by commas.
func ParseTrustedProxies(list string) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		r, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, fmt.Errorf("%q is no address range such as 10.0.0.0/8: %w", item, err)
		}
		ranges = append(ranges, r.Masked())
	}
	return ranges, nil
}

// GatewayAuthenticator trusts the X-User-ID header of requests that come from a gateway.
type GatewayAuthenticator struct {
	// TrustedProxies are the ranges the gateway's address is in. The header of anybody else is ignored.
	TrustedProxies []netip.Prefix
}

// Authenticate reads the user from the header.
func (a GatewayAuthenticator) Authenticate(r *http.Request) (Caller, error) {
	if !a.trusts(r.RemoteAddr) {
		return Caller{}, unauthorized("This address may not say who the user is; requests must come through the gateway.")
	}
	values := r.Header.Values(scanapi.UserIDHeader)
	switch {
	case len(values) == 0 || values[0] == "":
		return Caller{}, unauthorized("The " + scanapi.UserIDHeader + " header is missing: sign in.")
	case len(values) > 1:
		// One of them is not the gateway's.
		return Caller{}, unauthorized("The " + scanapi.UserIDHeader + " header was sent more than once.")
	}
	return callerOf(values[0])
}

// callerOf checks a user's id.
func callerOf(userID string) (Caller, error) {
	switch {
	case !utf8.ValidString(userID) || strings.ContainsFunc(userID, unicode.IsControl):
		return Caller{}, unauthorized("The user's id must be UTF-8 without control characters.")
	case utf8.RuneCountInString(userID) > maxUserID:
		return Caller{}, unauthorized(fmt.Sprintf("The user's id has more than %d characters.", maxUserID))
	default:
		return Caller{UserID: userID}, nil
	}
}

func (a GatewayAuthenticator) trusts(remote string) bool {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	ip := address.Addr().Unmap().WithZone("")
	for _, trusted := range a.TrustedProxies {
		if trusted.Contains(ip) {
			return true
		}
	}
	return false
}

func unauthorized(detail string) *problemError {
	return &problemError{status: http.StatusUnauthorized, code: scanapi.CodeUnauthorized, detail: detail}
}
