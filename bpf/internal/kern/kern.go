// Package kern holds the BPF programs in C, and what bpf2go makes of them.
//
// One little-endian object serves amd64 and arm64: no program reads pt_regs.
// The objects are committed, so building headroom needs no clang; go generate
// with one version of clang (14 here) reproduces them byte for byte. It must
// import nothing of headroom: package bpf gives the bytes their meaning.
package kern

//go:generate -command compile go tool bpf2go -target bpfel -cc clang-14 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu"
//go:generate compile -type pass -type walk -type thread Sampler sampler.bpf.c
//go:generate compile -type direction -type blockio -type memo BlockIO blockio.bpf.c
//go:generate compile -type tail WaitTail waittail.bpf.c
//go:generate compile -type reading -type tap Taps taps.bpf.c
//go:generate compile -type exits Exits exits.bpf.c
