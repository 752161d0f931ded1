// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/eco2-team/scan-operator/pkg/client/scanapi"
)

// DefaultTrustedProxies are the loopback and private address ranges (RFC 1918, RFC 4193), where a gateway usually is.
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
			return nil, fmt.Errorf("%q is not an address range such as 10.0.0.0/8: %w", item, err)
		}
		ranges = append(ranges, r.Masked())
	}
	return ranges, nil
}

// Gateway trusts the X-User-ID header of requests that come from a gateway.
type Gateway struct {
	// TrustedProxies are the address ranges of the gateway. The header is ignored from any other address.
	TrustedProxies []netip.Prefix
}

// Authenticate reads the user from the header.
func (g Gateway) Authenticate(r *http.Request) (Caller, error) {
	if !g.trusts(r.RemoteAddr) {
		return Caller{}, unauthorized("This address is not a trusted gateway; requests must come through the gateway.")
	}
	values := r.Header.Values(scanapi.UserIDHeader)
	switch {
	case len(values) == 0 || values[0] == "":
		return Caller{}, unauthorized("The " + scanapi.UserIDHeader + " header is missing: sign in.")
	case len(values) > 1:
		// The gateway sets one, so the other was sent by the client.
		return Caller{}, unauthorized("The " + scanapi.UserIDHeader + " header was sent more than once.")
	}
	return callerOf(values[0])
}

func (g Gateway) trusts(remote string) bool {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	ip := address.Addr().Unmap().WithZone("")
	for _, trusted := range g.TrustedProxies {
		if trusted.Contains(ip) {
			return true
		}
	}
	return false
}
