// Package queueapi carries what the scheduler knows of waiting scans, from its memory: where they stand and how
// long they will probably wait. The leader serves it, the HTTP API asks; nothing of this is ever stored.
package queueapi

import (
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/eco2-team/scan-operator/internal/scheduler"
)

// maxNames bounds one question.
const (
	maxNames = 1000
	maxBody  = 512 << 10
)

// Scheduler is the part of the scheduler that is asked.
type Scheduler interface {
	// Standing says where a waiting scan stands; ok is false for a scan that does not wait.
	Standing(name types.NamespacedName) (standing scheduler.Standing, ok bool)
	// NewcomerWait estimates the wait of a scan that would be created now; ok is false where that is not known.
	NewcomerWait(namespace string) (wait time.Duration, ok bool)
}

// Question asks for the standings of scans of one namespace.
type Question struct {
	// Names are at most 1000 names of scans.
	Names []string `json:"names"`
}

// Answer has the standings of those scans that wait, and the outlook for a new one.
type Answer struct {
	// Scans has an entry for each scan asked for that waits.
	Scans map[string]Standing `json:"scans"`
	// NewcomerWaitSeconds is the estimated wait of a scan that would be created now; absent where unknown.
	NewcomerWaitSeconds *float64 `json:"newcomerWaitSeconds,omitempty"`
}

// Standing is where one scan stands.
type Standing struct {
	// Ahead is the number of scans that go first.
	Ahead int `json:"ahead"`
	// TokensAhead is what these reserve.
	TokensAhead int64 `json:"tokensAhead"`
	// WaitSeconds is the estimated time until the scan is assigned; absent where unknown.
	WaitSeconds *float64 `json:"waitSeconds,omitempty"`
	// Reason and Message say why it waits.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Handler serves POST /v1/namespaces/{namespace}/standings.
func Handler(s Scheduler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/namespaces/{namespace}/standings", func(w http.ResponseWriter, r *http.Request) {
		var q Question
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil {
			http.Error(w, "the body is not a question: "+err.Error(), http.StatusBadRequest)
			return
		}
		if len(q.Names) > maxNames {
			http.Error(w, "more than 1000 names; ask in parts", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer(s, r.PathValue("namespace"), q)) // the client has left if this fails
	})
	return mux
}

func answer(s Scheduler, namespace string, q Question) Answer {
	a := Answer{Scans: make(map[string]Standing, len(q.Names))}
	for _, name := range q.Names {
		st, ok := s.Standing(types.NamespacedName{Namespace: namespace, Name: name})
		if !ok {
			continue
		}
		out := Standing{Ahead: st.Ahead, TokensAhead: st.TokensAhead, Reason: st.Reason, Message: st.Message}
		if st.WaitKnown {
			out.WaitSeconds = seconds(st.Wait)
		}
		a.Scans[name] = out
	}
	if wait, ok := s.NewcomerWait(namespace); ok {
		a.NewcomerWaitSeconds = seconds(wait)
	}
	return a
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}
