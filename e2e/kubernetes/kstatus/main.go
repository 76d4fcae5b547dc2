// Reads a list of objects as JSON from standard input, and prints the status of each as kstatus computes it: one line of
// kind, name and status.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	var list unstructured.UnstructuredList
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		fmt.Fprintln(os.Stderr, "can't read the list:", err)
		os.Exit(1)
	}
	for i := range list.Items {
		object := &list.Items[i]
		result, err := status.Compute(object)
		if err != nil {
			fmt.Fprintln(os.Stderr, object.GetKind(), object.GetName(), err)
			os.Exit(1)
		}
		fmt.Println(object.GetKind(), object.GetName(), result.Status)
	}
}
