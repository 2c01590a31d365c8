// Package hygiene holds the tests that keep the house in order: which folder may
// import which, that no library's type leaks out of the folder that holds it,
// that every package says what it is for, and that functions and files stay
// readable. They read the source; nothing of the project runs.
//
// The package has no code of its own and imports none of headroom.
package hygiene
