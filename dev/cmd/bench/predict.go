package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/eco2-team/scan-operator/internal/queuestatus"
)

// prediction is the wait that the leader foretold for a scan.
type prediction struct {
	at   time.Time
	wait time.Duration
}

// forecaster asks the managers how waiting scans stand; the leader answers.
type forecaster struct {
	urls      []string
	namespace string
}

func newForecaster(urls, namespace string) *forecaster {
	if urls == "" {
		return nil
	}
	return &forecaster{urls: strings.Split(urls, ","), namespace: namespace}
}

// ask returns the predicted waits of those scans that wait.
func (f *forecaster) ask(ctx context.Context, names []string) map[string]prediction {
	body, err := json.Marshal(queuestatus.Request{Names: names})
	if err != nil {
		return nil
	}
	for _, base := range f.urls {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+queuestatus.Path(f.namespace), bytes.NewReader(body))
		if err != nil {
			return nil
		}
		at := time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		var a queuestatus.Response
		err = json.NewDecoder(resp.Body).Decode(&a)
		_ = resp.Body.Close()
		if err != nil {
			continue
		}
		found := make(map[string]prediction, len(a.Scans))
		for name, s := range a.Scans {
			if s.WaitSeconds != nil {
				found[name] = prediction{at: at, wait: time.Duration(*s.WaitSeconds * float64(time.Second))}
			}
		}
		return found
	}
	return nil
}
