// Package inbox keeps received updates until they are handled.
package inbox
