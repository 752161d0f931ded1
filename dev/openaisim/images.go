// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"encoding/base64"
	"image"
	_ "image/gif"  // data URLs may hold a GIF
	_ "image/jpeg" // or a JPEG
	_ "image/png"  // or a PNG
	"net/url"
	"strconv"
	"strings"
)

const (
	// defaultSide is the size of an image whose URL has none.
	defaultSide = 1024
	// maxSide bounds the size that a URL may claim.
	maxSide = 65535
)

// imageRef is an image in a prompt.
type imageRef struct {
	url           string
	detail        string
	class         string
	width, height int64
	tokens        int64
}

// newImageRef reads what a URL says about its image. The URL is never fetched.
// The returned error names param.
func newImageRef(rawURL, detail, param string) (*imageRef, *apiError) {
	ref := &imageRef{url: rawURL, detail: detail, width: defaultSide, height: defaultSide}
	switch detail {
	case "":
		ref.detail = detailAuto
	case detailLow, detailHigh, detailAuto, detailOriginal:
	default:
		return nil, invalid(param+".detail", "invalid_value",
			"Invalid value: '%s'. Supported values are: 'low', 'high', 'auto', and 'original'.", detail)
	}
	if rest, ok := strings.CutPrefix(rawURL, "data:"); ok {
		return ref, ref.measure(rest, param)
	}
	parsed, err := url.Parse(rawURL)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, invalid(param, "invalid_value",
			"Invalid '%s'. Expected a valid URL, but got a value with an invalid format.", param)
	}
	if parsed.RawQuery == "" {
		return ref, nil
	}
	query := parsed.Query()
	ref.class = query.Get("class")
	ref.width = sideFrom(query.Get("w"))
	ref.height = sideFrom(query.Get("h"))
	return ref, nil
}

// measure reads the size in the header of a base64 data URL.
func (ref *imageRef) measure(data, param string) *apiError {
	const unsupported = "You uploaded an unsupported image. Please make sure your image has of one the following formats: " +
		"['png', 'jpeg', 'gif', 'webp']."
	mediaType, payload, ok := strings.Cut(data, ";base64,")
	if !ok || !strings.HasPrefix(mediaType, "image/") {
		return invalid(param, "invalid_value",
			"Invalid '%s'. Expected a base64-encoded data URL with an image MIME type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), "+
				"but got a value with an invalid format.", param)
	}
	config, _, err := image.DecodeConfig(base64.NewDecoder(base64.StdEncoding, strings.NewReader(payload)))
	switch {
	case err == nil:
		ref.width, ref.height = int64(config.Width), int64(config.Height)
		return nil
	case mediaType == "image/webp":
		// No decoder at hand: the default size stands in.
		return nil
	default:
		return invalid("", "invalid_image_format", "%s", unsupported)
	}
}

// sideFrom reads a number of pixels, or the default when it is none.
func sideFrom(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxSide {
		return defaultSide
	}
	return n
}
