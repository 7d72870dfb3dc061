package s3store

// WithoutAttributes makes the server keep metadata in files.
func WithoutAttributes(cfg *EmbeddedConfig) { cfg.noAttributes = true }
