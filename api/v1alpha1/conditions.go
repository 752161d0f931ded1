// Copyright The scan-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types of a ScanRequest.
const (
	// ConditionAdmitted is True while a worker, and the tokens that its stage needs, are assigned to the scan; False
	// gives the reason for waiting, or Finished.
	ConditionAdmitted = "Admitted"
	// ConditionVisionCompleted is True when the image is classified.
	ConditionVisionCompleted = "VisionCompleted"
	// ConditionRuleCompleted is True when the knowledge pack was looked up.
	ConditionRuleCompleted = "RuleCompleted"
	// ConditionAnswerCompleted is True when the advice is written.
	ConditionAnswerCompleted = "AnswerCompleted"
	// ConditionRewardCompleted is True when the reward was matched or found not to apply.
	ConditionRewardCompleted = "RewardCompleted"
	// ConditionFinished is True when the scan is terminal, whether it succeeded or failed.
	ConditionFinished = "Finished"
)

// Reasons of a ScanRequest's conditions. The set is closed.
const (
	// ReasonAssigned: a worker has the scan.
	ReasonAssigned = "Assigned"
	// ReasonStageCompleted: a stage is done and the next one is queued.
	ReasonStageCompleted = "StageCompleted"
	// ReasonFinished: the scan has finished and needs no worker.
	ReasonFinished = "Finished"
	// ReasonWaitingForTokens: the budget's token limit has no room yet.
	ReasonWaitingForTokens = "WaitingForTokens"
	// ReasonWaitingForRequests: the budget's request limit has no room yet.
	ReasonWaitingForRequests = "WaitingForRequests"
	// ReasonWaitingForQuota: the budget's quota is exhausted.
	ReasonWaitingForQuota = "WaitingForQuota"
	// ReasonWaitingForBudget: no budget of the pools is ready, for example because its Secret is missing.
	ReasonWaitingForBudget = "WaitingForBudget"
	// ReasonWaitingForWorker: no live worker of a fitting pool has room.
	ReasonWaitingForWorker = "WaitingForWorker"
	// ReasonBackingOff: the last attempt failed and the next one is not due.
	ReasonBackingOff = "BackingOff"
	// ReasonSuspended: spec.suspend is true.
	ReasonSuspended = "Suspended"

	// ReasonSucceeded: the stage or the scan succeeded.
	ReasonSucceeded = "Succeeded"
	// ReasonSkipped: the stage had nothing to do.
	ReasonSkipped = "Skipped"
	// ReasonNoRuleFound: the knowledge pack has no entry for the class; the scan succeeds with a fixed answer.
	ReasonNoRuleFound = "NoRuleFound"
	// ReasonRetrying: the attempt failed and another one follows.
	ReasonRetrying = "Retrying"

	// ReasonDeadlineExceeded: spec.deadlineSeconds have passed.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonWorkersLost: every worker that ran the stage was lost, the last one while it ran nothing else.
	ReasonWorkersLost = "WorkersLost"
	// ReasonRetriesExhausted: the last allowed attempt failed.
	ReasonRetriesExhausted = "RetriesExhausted"
	// ReasonUnsupportedModel: no budget of the pools serves the model.
	ReasonUnsupportedModel = "UnsupportedModel"
	// ReasonRequestTooLarge: one call needs more tokens than the budget's whole limit.
	ReasonRequestTooLarge = "RequestTooLarge"
	// ReasonNotClassifiable: the model's class is outside the taxonomy.
	ReasonNotClassifiable = "NotClassifiable"
	// ReasonContentRefused: the model declined to answer.
	ReasonContentRefused = "ContentRefused"
	// ReasonInvalidRequest: the provider rejected the call as invalid.
	ReasonInvalidRequest = "InvalidRequest"
)

// Condition types of a TokenBudget.
const (
	// ConditionReady is True when the key exists and the provider accepts it.
	ConditionReady = "Ready"
	// ConditionThrottled is True while the provider limits the rate below the configured one.
	ConditionThrottled = "Throttled"
	// ConditionQuotaExhausted is True while the provider's quota or spec.quota is exhausted.
	ConditionQuotaExhausted = "QuotaExhausted"
)

// Reasons of a TokenBudget's conditions. The set is closed.
const (
	// ReasonKeyFound: the Secret holds a key.
	ReasonKeyFound = "KeyFound"
	// ReasonSecretNotFound: the Secret does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretKeyNotFound: the Secret has no such key, or it is empty.
	ReasonSecretKeyNotFound = "SecretKeyNotFound"
	// ReasonProviderUnreachable: calls of several scans failed without a success in between; probe calls are sent.
	ReasonProviderUnreachable = "ProviderUnreachable"
	// ReasonKeyRejected: the provider answered 401, or 403 with a code of the account.
	ReasonKeyRejected = "KeyRejected"
	// ReasonWithinLimits: the provider admits calls at the configured rate.
	ReasonWithinLimits = "WithinLimits"
	// ReasonRateLimited: the provider answered 429 rate_limit_exceeded.
	ReasonRateLimited = "RateLimited"
	// ReasonSlowDown: the provider answered 503 "slow down".
	ReasonSlowDown = "SlowDown"
	// ReasonQuotaAvailable: quota is available.
	ReasonQuotaAvailable = "QuotaAvailable"
	// ReasonProviderQuotaExhausted: the provider answered 429 insufficient_quota or a related code.
	ReasonProviderQuotaExhausted = "ProviderQuotaExhausted"
	// ReasonSpecQuotaExhausted: spec.quota is exhausted for this period.
	ReasonSpecQuotaExhausted = "SpecQuotaExhausted"
)

// Condition types of a WorkerPool.
const (
	// The type Ready (ConditionReady) is True on a WorkerPool when its Deployment is applied, and as many workers are
	// ready as are desired and run the current template.

	// ConditionProgressing is True while workers are started, replaced or drained.
	ConditionProgressing = "Progressing"
	// ConditionScalingLimited is True when the load requires more workers than a limit allows.
	ConditionScalingLimited = "ScalingLimited"
)

// Reasons of a WorkerPool's conditions. The set is closed.
const (
	// ReasonWorkersReady: as many workers are ready as are desired.
	ReasonWorkersReady = "WorkersReady"
	// ReasonWorkersUnready: fewer workers are ready than are desired.
	ReasonWorkersUnready = "WorkersUnready"
	// ReasonScaledToZero: no workers are desired.
	ReasonScaledToZero = "ScaledToZero"
	// ReasonRollingOut: workers of an older template are being replaced, or replicas are being added or removed.
	ReasonRollingOut = "RollingOut"
	// ReasonRolloutComplete: all workers run the current template.
	ReasonRolloutComplete = "RolloutComplete"
	// ReasonBudgetNotFound: a budget of the pool does not exist.
	ReasonBudgetNotFound = "BudgetNotFound"
	// ReasonInvalidTemplate: the merged pod template was rejected.
	ReasonInvalidTemplate = "InvalidTemplate"
	// ReasonDeploymentForbidden: the cluster does not allow the pool's Deployment.
	ReasonDeploymentForbidden = "DeploymentForbidden"
	// ReasonNotLimited: no limit holds the number of workers back.
	ReasonNotLimited = "NotLimited"
	// ReasonLimited: status.limitedBy names the limit.
	ReasonLimited = "Limited"
)
