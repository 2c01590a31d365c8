package bpf
import ("testing";"os";"time";"fmt")
func TestSmoke(t *testing.T){
 for _,tier:=range []Tier{TierSyscall,TierIter,TierProcfs}{
  s,err:=Open(Options{Tiers:[]Tier{tier}})
  if err!=nil{t.Errorf("%s: %+v",tier,err);continue}
  s.SetTargets([]Target{{ID:"me",PID:os.Getpid()},{ID:"init",PID:1},{ID:"gone",PID:999999}})
  var d []Sample
  d,err=s.Sample(d); if err!=nil{t.Fatal(err)}
  x:=0; for t0:=time.Now();time.Since(t0)<300*time.Millisecond;{x++}
  d,err=s.Sample(d); if err!=nil{t.Fatal(err)}
  for _,q:=range d{fmt.Printf("%s %+v\n",tier,q)}
  fmt.Println(testing.AllocsPerRun(100,func(){d,err=s.Sample(d)}), s.Cost())
  s.Close()
 }
 l,err:=OpenLinks(); if err!=nil{t.Fatal(err)}
 m:=map[string]LinkStats{}
 fmt.Println(l.Read(m),m, testing.AllocsPerRun(200,func(){l.Read(m)}))
}
