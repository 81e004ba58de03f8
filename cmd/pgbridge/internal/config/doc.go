// Package config makes one configuration of the file, the environment and the
// flags, in this order, and says with its place everything that is wrong with
// it. It also notices when the file changes, and what of a change needs a
// restart.
package config
