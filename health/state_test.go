package health

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// One field more and a state takes the allocator's next size, which is 32 bytes
// larger: with all that it refers to it would then be over 1 KiB.
func TestAStateFitsItsSize(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(state{}), uintptr(352))
	assert.LessOrEqual(t, unsafe.Sizeof(rare{}), uintptr(96))
}
