// Package scanrequest reconciles ScanRequests: it ends runs and scans that are past their deadline, and deletes
// finished scans after their time to live.
package scanrequest
