package wire_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/debughost/debughost/sdk"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Every field of a request and of a decision survives the wire, also those that
// are added after this was written: the values are made by reflection.
func TestPlacementSurvivesTheWire(t *testing.T) {
	var got sdk.PlacementRequest
	var answer sdk.Decision
	c := configured(t, &chooser{func(r sdk.PlacementRequest) (sdk.Decision, error) {
		got = r
		return answer, nil
	}})
	rapid.Check(t, func(t *rapid.T) {
		var request sdk.PlacementRequest
		fill(t, reflect.ValueOf(&request).Elem())
		names := rapid.SliceOfNDistinct(rapid.String(), len(request.Members), len(request.Members), rapid.ID[string]).Draw(t, "names")
		for i := range request.Members {
			request.Members[i].Name = names[i]
		}
		// One that may be chosen.
		request.Members[0] = sdk.Member{Name: names[0], State: sdk.MemberAlive, Labels: request.Child.Constraints, Targets: []string{request.Child.Near}, Resources: request.Members[0].Resources}

		answer = sdk.Decision{}
		fill(t, reflect.ValueOf(&answer).Elem())
		answer.Member, answer.Stop = names[0], false // TestChooseRefusals is about Stop
		answer.Scores = answer.Scores[:min(len(answer.Scores), len(names))]
		for i := range answer.Scores {
			answer.Scores[i].Member = names[i]
		}
		decision, err := c.Placement().Choose(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, request) {
			t.Fatalf("sent %+v\nreceived %+v", request, got)
		}
		if !reflect.DeepEqual(decision, answer) {
			t.Fatalf("answered %+v\nreceived %+v", answer, decision)
		}
	})
}

// fill draws a value that differs from the zero value in every field.
func fill(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case sdk.Restart:
		v.SetString(string(rapid.SampledFrom([]sdk.Restart{sdk.RestartPermanent, sdk.RestartTransient, sdk.RestartTemporary}).Draw(t, "restart")))
		return
	case sdk.Handoff:
		v.SetString(string(rapid.SampledFrom([]sdk.Handoff{sdk.HandoffNone, sdk.HandoffSnapshot}).Draw(t, "handoff")))
		return
	case sdk.MemberState:
		v.SetString(string(rapid.SampledFrom([]sdk.MemberState{sdk.MemberAlive, sdk.MemberSuspect, sdk.MemberDead, sdk.MemberLeft}).Draw(t, "state")))
		return
	case time.Duration:
		v.SetInt(rapid.Int64Range(1, math.MaxInt64).Draw(t, "duration"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(1, 4).Draw(t, "length"), 4))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(1, 4).Draw(t, "size") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key)
			fill(t, value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(rapid.StringN(1, 8, 32).Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(rapid.Int64Range(1, math.MaxUint32).Draw(t, "int"))
	case reflect.Uint8:
		v.SetUint(rapid.Uint64Range(1, math.MaxUint8).Draw(t, "byte"))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Range(1, math.MaxUint64).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(math.SmallestNonzeroFloat64, math.MaxFloat64).Draw(t, "float"))
	default:
		t.Fatalf("a field of type %v: teach this test to draw one", v.Type())
	}
}

// What does not fit is the most that does, and nothing is less than nothing.
func TestCountsAreClamped(t *testing.T) {
	var got sdk.PlacementRequest
	c := configured(t, &chooser{func(r sdk.PlacementRequest) (sdk.Decision, error) {
		got = r
		return sdk.Decision{Member: "a"}, nil
	}})
	_, err := c.Placement().Choose(t.Context(), sdk.PlacementRequest{
		Child:   sdk.ChildSpec{MaxRestarts: -1},
		Members: []sdk.Member{{Name: "a", State: sdk.MemberAlive, Resources: sdk.Resources{CPUs: math.MinInt, Children: math.MaxInt}}},
	})
	require.NoError(t, err)
	require.Zero(t, got.Child.MaxRestarts)
	require.Zero(t, got.Members[0].Resources.CPUs)
	require.Equal(t, math.MaxUint32, got.Members[0].Resources.Children)
}
