package openaisim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

const (
	// chunkQuarters is the size of a streamed piece of text: 4 tokens.
	chunkQuarters = 4 * quarter
	// firstByteShare is the part of the latency before the first chunk.
	firstByteShare = 5
)

// chatStream sends a chat completion as server-sent events.
type chatStream struct {
	x        *exchange
	document chatDocument
}

// streamChat sends an answer piece by piece over the latency. A client that
// leaves gets no more; a stream that is cut ends without its last third.
func (x *exchange) streamChat(a *answer, latency time.Duration, fault FaultKind) {
	ctx, clk := x.r.Context(), x.server.clock
	s := &chatStream{x: x, document: newChatDocument(x.call, "chat.completion.chunk", clk.Now())}
	if x.call.includeUsage {
		s.document.Usage = jsonNull
	}
	deltas := streamDeltas(a)
	cut := len(deltas)
	if fault == FaultStreamCut {
		cut = len(deltas) * 2 / 3
	}
	if !pause(ctx, clk, latency/firstByteShare) {
		x.drop()
		return
	}
	s.open()
	step := (latency - latency/firstByteShare) / time.Duration(len(deltas))
	for i, d := range deltas {
		if i == cut {
			x.counters.failed(&apiError{counter: "stream_cut"})
			x.abort()
			return
		}
		if !pause(ctx, clk, step) || !s.send([]chatChoice{d}) {
			x.drop()
			return
		}
	}
	if x.call.includeUsage {
		s.document.Usage = chatUsageOf(a)
		s.send([]chatChoice{})
	}
	s.event([]byte("[DONE]"))
	x.counters.complete(a, x.clientID)
}

// streamDeltas cuts an answer into the choices of its chunks: for each answer
// the role, the text in pieces, the reason of its end.
func streamDeltas(a *answer) []chatChoice {
	var deltas []chatChoice
	for i := range a.choices {
		one := &a.choices[i]
		empty := ""
		deltas = append(deltas, chatChoice{Index: i, Delta: &chatDelta{Role: "assistant", Content: &empty}, Logprobs: jsonNull})
		for text := one.text; text != ""; {
			length, _ := fit(text, chunkQuarters)
			piece := text[:length]
			text = text[length:]
			delta := &chatDelta{Content: &piece}
			if one.finish == finishRefusal {
				delta = &chatDelta{Refusal: &piece}
			}
			deltas = append(deltas, chatChoice{Index: i, Delta: delta, Logprobs: jsonNull})
		}
		deltas = append(deltas, chatChoice{Index: i, Delta: &chatDelta{}, Logprobs: jsonNull, FinishReason: one.finish.reason()})
	}
	return deltas
}

// open sends the headers.
func (s *chatStream) open() {
	x := s.x
	x.writeLevels()
	h := x.w.Header()
	h["Content-Type"] = []string{"text/event-stream; charset=utf-8"}
	h["Openai-Processing-Ms"] = []string{strconv.FormatInt(x.server.millisSince(x.start), 10)}
	x.w.WriteHeader(http.StatusOK)
}

// send sends one chunk and reports whether the client took it.
func (s *chatStream) send(choices []chatChoice) bool {
	s.document.Choices = choices
	raw, err := json.Marshal(s.document)
	if err != nil {
		// The document is a struct of types that marshal.
		panic(err)
	}
	return s.event(raw)
}

// event sends one server-sent event.
func (s *chatStream) event(data []byte) bool {
	frame := make([]byte, 0, len(data)+8)
	frame = append(append(append(frame, "data: "...), data...), "\n\n"...)
	if _, err := s.x.w.Write(frame); err != nil {
		return false
	}
	return http.NewResponseController(s.x.w).Flush() == nil
}
