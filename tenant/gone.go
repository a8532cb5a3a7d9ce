package tenant

import "context"

// Gone returns a func that says which of some tenants have no record in a store:
// it is for the configurations of packages health and health/usage.
func Gone(store Store) func(ctx context.Context, tenants []string) ([]string, error) {
	return func(ctx context.Context, tenants []string) (gone []string, err error) {
		records, err := store.GetMany(ctx, tenants)
		if err != nil {
			return nil, err
		}
		for _, id := range tenants {
			if _, found := records[id]; !found {
				gone = append(gone, id)
			}
		}
		return gone, nil
	}
}
