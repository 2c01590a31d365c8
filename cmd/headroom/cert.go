package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"headroom/mesh"
)

// certCmd makes the cluster's secrets.
type certCmd struct{ *env }

func (c *certCmd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make the cluster's CA, host certificates and gossip key",
		Long: `Peers prove by certificate which host they are, and gossip is encrypted with one
key. Make both once, on a machine that you trust:

  headroom cert ca  --dir ca --cluster prod
  headroom cert key --out ca/gossip.key
  headroom cert host --dir ca --out hv1 --id $(ssh hv1 cat /etc/machine-id) --name hv1

Copy ca/ca.pem, ca/gossip.key, hv1/host.pem and hv1/host.key to /etc/headroom on
hv1. ca/ca.key stays where it is. Certificates last a year; a new one in place of
the old is taken up without a restart.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(c.ca(), c.key(), c.host(), c.show())
	return cmd
}

func (c *certCmd) ca() *cobra.Command {
	var dir, cluster string
	cmd := &cobra.Command{
		Use: "ca", Short: "Make the cluster's certificate authority", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := mesh.CreateCA(dir, cluster); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s: the CA of cluster %s, for 10 years\n%s: its key; keep it offline\n",
				filepath.Join(dir, mesh.CAFileName), cluster, filepath.Join(dir, mesh.CAKeyFileName))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder for ca.pem and ca.key")
	cmd.Flags().StringVar(&cluster, "cluster", "headroom", "name of the cluster, as in mesh.cluster")
	return cmd
}

func (c *certCmd) key() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "key", Short: "Make the gossip key, the same for every host", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := mesh.CreateKey(out); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s: gossip key of 32 bytes, base64\n", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "gossip.key", "file to write")
	return cmd
}

func (c *certCmd) host() *cobra.Command {
	var dir, out, id, name string
	var ips []net.IP
	cmd := &cobra.Command{
		Use: "host", Short: "Issue a host's certificate", Args: cobra.NoArgs,
		Example: "  headroom cert host --dir ca --out hv1 --id 0123456789abcdef0123456789abcdef --name hv1",
		RunE: func(*cobra.Command, []string) error {
			if id == "" {
				b, err := os.ReadFile("/etc/machine-id")
				if err != nil {
					return fmt.Errorf("%w: give --id, the host's /etc/machine-id: %w", errUsage, err)
				}
				id = strings.TrimSpace(string(b))
			}
			if err := mesh.IssueHost(dir, out, mesh.HostID(id), name, ips); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "%s and %s: certificate and key of host %s, for a year\n",
				filepath.Join(out, mesh.HostCertName), filepath.Join(out, mesh.HostKeyName), id)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "folder with ca.pem and ca.key")
	cmd.Flags().StringVar(&out, "out", ".", "folder for host.pem and host.key")
	cmd.Flags().StringVar(&id, "id", "", "the host's machine id (default: this machine's)")
	cmd.Flags().StringVar(&name, "name", "", "the host's name, for people")
	cmd.Flags().IPSliceVar(&ips, "ip", nil, "the host's addresses, for people")
	return cmd
}

func (c *certCmd) show() *cobra.Command {
	var ca string
	cmd := &cobra.Command{
		Use: "show CERT", Short: "Say whose certificate it is, and whether peers accept it", Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			info, err := mesh.InspectHost(ca, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "host %s (%s) of cluster %s, until %s\n", info.Host, dash(info.Name), info.Cluster, info.NotAfter.Format("2006-01-02"))
			return nil
		},
	}
	cmd.Flags().StringVar(&ca, "ca", "/etc/headroom/ca.pem", "the cluster's CA")
	return cmd
}
