// The race's Go peer: reads a topic with franz-go as a program would, without a group.
//
// `franz scan BROKER TOPIC RECORDS` reads so many records; `franz range BROKER TOPIC START COUNT TIMES`
// reads a piece of partition 0, again and again with one client. Prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) < 5 {
		fail(fmt.Errorf("usage: franz scan BROKER TOPIC RECORDS | range BROKER TOPIC START COUNT TIMES"))
	}
	broker, topic := os.Args[2], os.Args[3]
	switch os.Args[1] {
	case "scan":
		scan(broker, topic, number(4))
	case "range":
		pieces(broker, topic, number(4), int(number(5)), int(number(6)))
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

// Checksums are verified: that is the library's default, as is one fetch under way for each broker.
func client(broker string, more ...kgo.Opt) *kgo.Client {
	options := append([]kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(50 << 20),
		kgo.FetchMaxPartitionBytes(4 << 20),
	}, more...)
	made, err := kgo.NewClient(options...)
	if err != nil {
		fail(err)
	}
	return made
}

func scan(broker, topic string, wanted int64) {
	begun := time.Now()
	client := client(broker, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var records, bytes, last int64
	for records < wanted {
		fetches := poll(client)
		fetches.EachRecord(func(record *kgo.Record) {
			records++
			bytes += int64(len(record.Value))
			last = max(last, record.Offset)
		})
	}
	report(map[string]any{"records": records, "bytes": bytes, "last": last, "seconds": time.Since(begun).Seconds()})
}

func pieces(broker, topic string, start int64, count, times int) {
	client := client(broker)
	took := make([]float64, 0, times)
	for range times {
		begun := time.Now()
		client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(start)}})
		for read := 0; read < count; {
			poll(client).EachRecord(func(*kgo.Record) { read++ })
		}
		took = append(took, time.Since(begun).Seconds())
		client.RemoveConsumePartitions(map[string][]int32{topic: {0}})
	}
	report(map[string]any{"records": count, "times": took})
}

func poll(client *kgo.Client) kgo.Fetches {
	deadline, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fetches := client.PollFetches(deadline)
	if errors := fetches.Errors(); len(errors) > 0 {
		fail(errors[0].Err)
	}
	return fetches
}

func report(result map[string]any) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	result["user"] = float64(usage.Utime.Nano()) / 1e9
	result["system"] = float64(usage.Stime.Nano()) / 1e9
	result["peak_kib"] = peakKiB()
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func peakKiB() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				fail(err)
			}
			return kib
		}
	}
	return 0
}

func number(argument int) int64 {
	if argument >= len(os.Args) {
		fail(fmt.Errorf("argument %d is missing", argument))
	}
	value, err := strconv.ParseInt(os.Args[argument], 10, 64)
	if err != nil {
		fail(err)
	}
	return value
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "franz:", err)
	os.Exit(1)
}
