// Package standin makes distributions in the exact layouts of the real nuclei
// with other content, and does what the classic nucleus's installer leaves on a
// device. It is what the simulator packs itself with and what the installer's
// tests install; no program for devices uses it.
package standin
