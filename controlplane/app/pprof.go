package app

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
)

// openPprof serves the runtime's profiles where pprof-addr says; nobody does by
// default. Profiles tell what the process works on, so the address is loopback.
func (a *App) openPprof(ctx context.Context) error {
	if a.cfg.PprofAddr == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.cfg.PprofAddr)
	if err != nil {
		return listenError("pprof-addr", a.cfg.PprofAddr, err)
	}
	a.onClose(func() { _ = l.Close() }) // closed twice when it served: no harm
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.servers = append(a.servers, server{"profiles", a.httpServer(mux), l})
	return nil
}
