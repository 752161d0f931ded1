// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package openaisim

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
)

// benchServer measures whole calls over a real loopback connection, client
// included, with the latency switched off.
func benchServer(b *testing.B, at endpoint, body func(i int64) string) {
	b.Helper()
	s := New(Options{Config: Config{Speed: noLatency, TokensPerMinute: maxPerMinute, RequestsPerMinute: maxPerMinute}})
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	const connections = 64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var sent atomic.Int64
	b.SetParallelism(connections / 2)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := sent.Add(1)
			if status := post(b, client, web.URL+string(at), body(i), i); status != http.StatusOK && status != http.StatusTooManyRequests {
				b.Errorf("status %d", status)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(s.Stats().Completed)/float64(b.N), "answered/req")
}

func post(b *testing.B, client *http.Client, url, body string, i int64) int {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		b.Error(err)
		return 0
	}
	// A few keys, so that the buckets never run dry.
	request.Header.Set("Authorization", fmt.Sprintf("Bearer sk-bench-%d", i%16))
	request.Header.Set("X-Client-Request-Id", strconv.FormatInt(i, 10))
	response, err := client.Do(request)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		b.Error(err)
	}
	return response.StatusCode
}

func BenchmarkServerVision(b *testing.B) {
	benchServer(b, endpointResponses, func(i int64) string {
		return fmt.Sprintf(`{"model":"gpt-5.4-mini","max_output_tokens":300,"instructions":"사진 속 물건을 분류하세요.","input":[{"role":"user","content":[`+
			`{"type":"input_text","text":"이거 어떻게 버려요?"},{"type":"input_image","detail":"low","image_url":"https://x.test/%d.jpg?w=800&h=600"}]}],`+
			`"text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":`+wasteSchema+`}}}`, i)
	})
}

func BenchmarkServerAnswer(b *testing.B) {
	benchServer(b, endpointChat, func(i int64) string {
		return fmt.Sprintf(`{"model":"gpt-5.4-mini","max_completion_tokens":800,"messages":[{"role":"system","content":"Answer from the rule only."},`+
			`{"role":"user","content":"페트병 %d개는 어떻게 버려요?"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":`+
			answerSchema+`}}}`, i)
	})
}
