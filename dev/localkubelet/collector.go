package localkubelet

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// dependents are the kinds that are collected when their owners are gone: the
// Deployments of a WorkerPool and the Leases of a pod. Pods are the Deployment
// controller's affair.
var dependents = []schema.GroupVersionResource{
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
}

// collector plays the garbage collector: it deletes dependents whose owners do
// not exist any more. It watches the kinds of the owners that it meets.
type collector struct {
	client    metadata.Interface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	namespace string
	log       logr.Logger
	factory   metadatainformer.SharedInformerFactory
	queue     workqueue.TypedRateLimitingInterface[dependent]
	stop      context.Context //nolint:containedctx // ends the watches of owners, which begin at any time

	mu      sync.Mutex
	watched map[schema.GroupVersionResource]bool
	owned   map[types.UID]map[dependent]bool // by owner
}

// dependent names one object that has an owner.
type dependent struct {
	resource schema.GroupVersionResource
	name     string
	uid      types.UID
}

func newCollector(config *rest.Config, client kubernetes.Interface, namespace string, log logr.Logger) (*collector, error) {
	m, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("local node: %w", err)
	}
	return &collector{
		client: m, namespace: namespace, log: log,
		mapper:  restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
		factory: metadatainformer.NewFilteredSharedInformerFactory(m, 0, namespace, nil),
		queue:   workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[dependent]()),
		watched: map[schema.GroupVersionResource]bool{},
		owned:   map[types.UID]map[dependent]bool{},
	}, nil
}

// run collects until ctx ends.
func (c *collector) run(ctx context.Context) {
	c.stop = ctx
	defer c.factory.Shutdown()
	for _, resource := range dependents {
		_, err := c.factory.ForResource(resource).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { c.dependentSeen(resource, obj) },
			UpdateFunc: func(_, obj any) { c.dependentSeen(resource, obj) },
			DeleteFunc: func(obj any) { c.dependentGone(resource, obj) },
		})
		if err != nil {
			c.log.Error(err, "cannot watch what may have to be collected", "resource", resource.Resource)
		}
	}
	c.factory.Start(ctx.Done())

	var worker sync.WaitGroup
	worker.Go(c.work)
	<-ctx.Done()
	c.queue.ShutDown()
	worker.Wait()
}

func (c *collector) work() {
	for {
		d, stop := c.queue.Get()
		if stop {
			return
		}
		if err := c.collect(c.stop, d); err != nil && c.stop.Err() == nil {
			c.log.Error(err, "cannot tell whether an object has lost its owner; trying again", "resource", d.resource.Resource, "name", d.name)
			c.queue.AddRateLimited(d)
		} else {
			c.queue.Forget(d)
		}
		c.queue.Done(d)
	}
}

// dependentSeen notes the owners of an object, and has those looked up that
// were not known: they may be gone already.
func (c *collector) dependentSeen(resource schema.GroupVersionResource, obj any) {
	object, ok := obj.(metav1.Object)
	if !ok {
		return
	}
	d := dependent{resource: resource, name: object.GetName(), uid: object.GetUID()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range object.GetOwnerReferences() {
		if c.owned[ref.UID][d] {
			continue
		}
		if c.owned[ref.UID] == nil {
			c.owned[ref.UID] = map[dependent]bool{}
		}
		c.owned[ref.UID][d] = true
		c.queue.Add(d)
	}
}

func (c *collector) dependentGone(resource schema.GroupVersionResource, obj any) {
	object, ok := deletedObject(obj)
	if !ok {
		return
	}
	d := dependent{resource: resource, name: object.GetName(), uid: object.GetUID()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range object.GetOwnerReferences() {
		delete(c.owned[ref.UID], d)
		if len(c.owned[ref.UID]) == 0 {
			delete(c.owned, ref.UID)
		}
	}
}

func (c *collector) ownerGone(obj any) {
	object, ok := deletedObject(obj)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := range c.owned[object.GetUID()] {
		c.queue.Add(d)
	}
}

func deletedObject(obj any) (metav1.Object, bool) {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tombstone.Obj
	}
	object, ok := obj.(metav1.Object)
	return object, ok
}

// collect deletes the object if it has owners and none of them exists.
func (c *collector) collect(ctx context.Context, d dependent) error {
	object, err := c.client.Resource(d.resource).Namespace(c.namespace).Get(ctx, d.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (object.UID != d.uid || len(object.OwnerReferences) == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, ref := range object.OwnerReferences {
		exists, err := c.ownerExists(ctx, ref)
		if err != nil || exists {
			return err
		}
	}
	options := onlyIfUID(d.uid)
	options.PropagationPolicy = new(metav1.DeletePropagationBackground)
	return ignoreNotFound(c.client.Resource(d.resource).Namespace(c.namespace).Delete(ctx, d.name, options))
}

// ownerExists asks the API server, and begins to watch the owner's kind first:
// so an end that comes later is not missed.
func (c *collector) ownerExists(ctx context.Context, ref metav1.OwnerReference) (bool, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return false, fmt.Errorf("owner %s %q: %w", ref.Kind, ref.Name, err)
	}
	mapping, err := c.mapper.RESTMapping(gv.WithKind(ref.Kind).GroupKind(), gv.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset() // a type that was installed after the last look
	}
	if err != nil {
		return false, fmt.Errorf("owner %s %q: %w", ref.Kind, ref.Name, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return true, nil // cluster-wide owners are not of the local stack's making
	}
	if err := c.watchOwners(ctx, mapping.Resource); err != nil {
		return false, err
	}
	owner, err := c.client.Resource(mapping.Resource).Namespace(c.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("owner %s %q: %w", ref.Kind, ref.Name, err)
	}
	return owner.UID == ref.UID, nil
}

func (c *collector) watchOwners(ctx context.Context, resource schema.GroupVersionResource) error {
	c.mu.Lock()
	known := c.watched[resource]
	c.watched[resource] = true
	c.mu.Unlock()
	if known {
		return nil
	}
	informer := c.factory.ForResource(resource).Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: c.ownerGone}); err != nil {
		return fmt.Errorf("watch %s: %w", resource.Resource, err)
	}
	c.factory.Start(c.stop.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("watch %s: %w", resource.Resource, context.Cause(ctx))
	}
	return nil
}
