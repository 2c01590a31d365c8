// Command sampler measures what package bpf costs and how true it is, side by
// side with the other ways to the same figures: /proc read by name, /proc through
// descriptors kept open, libvirt's bulk statistics of real QEMU domains, and the
// textbook hook of sched_switch with hash maps.
//
// The methods take turns in random order, round by round, so that the machine's
// other work falls on all of them alike; a figure is the median of its rounds and
// comes with their quartiles. What is compared is CPU time: the clock on the wall
// tells of the neighbours. It needs root, and removes all that it makes.
package main
