package kube

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
)

// pageSize is how many objects are asked for at a time where an API server cannot stream them.
const pageSize = 500

// newInformer makes an informer that reads the initial state in pages of a size when the API server
// does not stream it: by default Kubernetes 1.30, 1.31 and 1.33 do not. Left alone, a reflector then
// asks for resourceVersion=0, for which the server's cache ignores the limit and hands out all at
// once, and perhaps an older state than was known before.
func newInformer(size int64) func(toolscache.ListerWatcher, runtime.Object, time.Duration, toolscache.Indexers) toolscache.SharedIndexInformer {
	return func(lw toolscache.ListerWatcher, obj runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
		return toolscache.NewSharedIndexInformer(paged(lw, size), obj, resync, by)
	}
}

// paged is lw, but that it lists in pages, and that whoever reads from it ends with his context.
func paged(lw toolscache.ListerWatcher, size int64) *toolscache.ListWatch {
	from := toolscache.ToListerWatcherWithContext(lw)
	return &toolscache.ListWatch{ListWithContextFunc: inPages(from, size), WatchFuncWithContext: punctual(from)}
}

// punctual hides of what kind an error is that keeps the initial state from being streamed. When the API server
// does not listen or is too busy a reflector sleeps its backoff without a look at its context; after any other
// error it lists, and what it waits for after that ends with its context.
//
// Source: Reflector.watchList and isWatchErrorRetriable of client-go v0.37.
func punctual(from toolscache.WatcherWithContext) toolscache.WatchFuncWithContext {
	return func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		w, err := from.WatchWithContext(ctx, o)
		if err != nil && o.SendInitialEvents != nil {
			err = errors.New(err.Error())
		}
		return w, err
	}
}

// inPages lists everything, and keeps of each object only what is needed before it asks for the
// next page. What the caller says about pages and versions does not count: he gets the whole.
func inPages(from toolscache.ListerWithContext, size int64) toolscache.ListWithContextFunc {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			page, err := from.ListWithContext(ctx, o)
			if err != nil {
				return nil, err
			}
			return page, meta.EachListItem(page, func(obj runtime.Object) error {
				strip(obj)
				return nil
			})
		})
		p.PageSize, p.FullListIfExpired = size, false // the reflector begins anew
		o.ResourceVersion, o.ResourceVersionMatch, o.Limit, o.Continue = "", "", 0, ""
		list, _, err := p.ListWithAlloc(ctx, o)
		return list, err
	}
}
