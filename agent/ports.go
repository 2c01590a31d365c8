package agent

import (
	"context"
	"time"

	"headroom/agent/handover"
	"headroom/agent/history"
	"headroom/agent/host"
	"headroom/agent/hypervisor"
	"headroom/bpf"
	"headroom/mesh"
)

// Driver is the hypervisor as the agent uses it: hypervisor.Libvirt, or
// hypervisor.Sim.
type Driver interface {
	handover.Hypervisor
	Domains(ctx context.Context) ([]hypervisor.Domain, error)
	Memory(ctx context.Context) (map[string]hypervisor.MemoryStats, error)
	// DirtyRate measures for about a second; ErrJobActive during a migration.
	DirtyRate(ctx context.Context, id string) (bytesPerSecond float64, err error)
	HostInfo(ctx context.Context) (hypervisor.HostInfo, error)
	Events() <-chan hypervisor.Event
	Connected() (bool, error)
	Close() error
}

// Sampler reads the VMs' counters: bpf.Sampler, or a simulated one.
type Sampler interface {
	Tier() bpf.Tier
	Refused() []bpf.Refusal
	SetTargets([]bpf.Target) error
	Sample(dst []bpf.Sample) ([]bpf.Sample, error)
	Cost() bpf.Cost
	Close() error
}

// Links reads the counters of network interfaces: bpf.Links.
type Links interface {
	Tier() bpf.Tier
	Refused() []bpf.Refusal
	Read() error
	Stats(name string) (bpf.LinkStats, bool)
	Cost() bpf.Cost
	Close() error
}

// Mesh is the cluster: mesh.Mesh.
type Mesh interface {
	Self() mesh.HostID
	Members() []mesh.Member
	Stable() (bool, string)
	HealthScore() int
	PublishDigest(mesh.Digest) (bool, error)
	Announce(mesh.News) error
	SetTags(mesh.Tags) error
	Subscribe(buffer int) (<-chan mesh.Event, func())
	Handle(method string, fn func(ctx context.Context, from mesh.HostID, body []byte) ([]byte, error))
	Call(ctx context.Context, to mesh.HostID, method string, body []byte) ([]byte, error)
	Stats() mesh.Stats
	Close() error
}

// Store keeps time series, records and learned state: history.Store.
type Store interface {
	Append(at time.Time, k history.Key, v float64) error
	Range(k history.Key, from, to time.Time, step time.Duration) ([]history.Point, error)
	PutRecord(kind string, at time.Time, id string, value []byte) error
	Records(kind string, since time.Time, limit int) ([]history.Record, error)
	PutBlob(name string, value []byte) error
	Blob(name string) ([]byte, bool, error)
	Stats() history.Stats
	// Err is why nothing is being written, or nil.
	Err() error
	// Run flushes and thins out until ctx ends.
	Run(ctx context.Context)
}

// HostReader reads the host's own status: host.Reader.
type HostReader interface {
	Status() (host.Status, error)
}
