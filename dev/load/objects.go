// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/eco2-team/scan-operator/api/v1alpha1"
)

// userInput is what the user of each scan asks: how to dispose of the thing in the picture.
const userInput = "이거 어떻게 버려요?"

// createTimeout bounds the creation of one scan.
const createTimeout = time.Minute

// Objects creates ScanRequests itself, without the HTTP API.
type Objects struct {
	Client    client.Client
	Namespace string
	// Name is the prefix of the scans' names.
	Name string
	// DeadlineSeconds is each scan's deadline.
	DeadlineSeconds int32
	// TTLSeconds is how long a scan is kept after its end.
	TTLSeconds int32
	// Images is the image URL; %d is replaced by the scan's number.
	Images   string
	Recorder *Recorder
}

// Create creates the scan with this number and returns its name. It is not cut off by ctx: the scan might have been
// created.
func (o *Objects) Create(ctx context.Context, number int, user string) (name string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	scan := &v1alpha1.ScanRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: fmt.Sprintf("%s-%06d", o.Name, number)},
		Spec: v1alpha1.ScanRequestSpec{
			ImageURL: fmt.Sprintf(o.Images, number), UserInput: userInput, UserID: user,
			DeadlineSeconds: o.DeadlineSeconds, TTLSecondsAfterFinished: &o.TTLSeconds,
		},
	}
	if err := o.Client.Create(ctx, scan); err != nil {
		return "", fmt.Errorf("create scan %s: %w", scan.Name, err)
	}
	o.Recorder.Accepted(scan.Name)
	return scan.Name, nil
}
